import { defineOperation } from 'accepted'
import type { Transaction } from 'kysely'
import Type from 'typebox'
import { Check } from 'typebox/value'
import type { Tables } from '../tables.ts'

const ThumbnailPayload = Type.Object({ attachmentId: Type.String({ format: 'uuid' }) })

/** Decodes files of strangers with a library in C, so its `perform` is isolated in a process of its own. */
export const makeThumbnail = defineOperation({
  name: 'thumbnail.make',
  summary: 'Make the thumbnail of an image',
  input: ThumbnailPayload,
  retry: { limit: 1 },
  timeoutSeconds: 20,
  abandon: async (trx: Transaction<Tables>, jobs) => {
    for (const { payload, status } of jobs) {
      if (!Check(ThumbnailPayload, payload)) continue
      const thumbnail = trx.updateTable('thumbnail').where('attachment_id', '=', payload.attachmentId)
      await thumbnail.where('status', '<>', 'ready').set({ status, content: null }).execute()
    }
  },
})
