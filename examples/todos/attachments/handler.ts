import type { Handler } from 'accepted/worker'
import type { Transaction } from 'kysely'
import type { Tables } from '../tables.ts'
import { makeThumbnail } from '../thumbnails/operation.ts'
import type { addAttachment } from './operation.ts'

export const addAttachmentHandler = {
  settle: async (trx: Transaction<Tables>, jobs) => {
    for (const job of jobs) {
      const { attachmentId } = job.payload
      const attachment = await trx
        .updateTable('attachment')
        .set({ status: 'ready' })
        .where('id', '=', attachmentId)
        .returning('media_type')
        .executeTakeFirstOrThrow()
      if (!attachment.media_type.startsWith('image/')) continue
      // A follow-up: the attachment is ready now, and its thumbnail later. With `child: true`, the attachment would wait.
      await trx.insertInto('thumbnail').values({ attachment_id: attachmentId }).execute()
      await job.enqueue(trx, makeThumbnail, { attachmentId })
    }
  },
} satisfies Handler<typeof addAttachment>
