import { defineOperation } from 'accepted'
import type { Transaction } from 'kysely'
import Type from 'typebox'
import { Check } from 'typebox/value'
import type { Tables } from '../tables.ts'

const AttachmentPayload = Type.Object({ attachmentId: Type.String({ format: 'uuid' }) })

/**
 * Has no `route`, because the route of an operation takes JSON. A route of the app takes the file, stores its bytes and
 * enqueues this job: see routes.ts. The payload names the file and does not contain it.
 */
export const addAttachment = defineOperation({
  name: 'attachment.add',
  summary: 'Add an attachment to a todo',
  input: AttachmentPayload,
  abandon: async (trx: Transaction<Tables>, jobs) => {
    for (const { payload, status } of jobs) {
      if (!Check(AttachmentPayload, payload)) continue
      const attachment = trx.updateTable('attachment').where('id', '=', payload.attachmentId)
      await attachment.where('status', '<>', 'ready').set({ status }).execute()
    }
  },
})
