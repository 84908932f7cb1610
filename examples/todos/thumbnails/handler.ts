import type { Handler } from 'accepted/worker'
import type { Transaction } from 'kysely'
import type { Tables } from '../tables.ts'
import type { makeThumbnail } from './operation.ts'

export const makeThumbnailHandler = {
  perform: new URL('./make-thumbnail.ts', import.meta.url),
  concurrency: 1,
  memoryLimit: 128,
  settle: async (trx: Transaction<Tables>, jobs) => {
    const ids = jobs.map((job) => job.payload.attachmentId)
    await trx.updateTable('thumbnail').set({ status: 'ready' }).where('attachment_id', 'in', ids).execute()
  },
} satisfies Handler<typeof makeThumbnail>
