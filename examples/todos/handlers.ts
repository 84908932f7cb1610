import { join } from 'node:path'
import { defineHandlers, JobFailed } from 'accepted/worker'
import type { Transaction } from 'kysely'
import { createMailer } from './mail.ts'
import * as operations from './operations.ts'
import type { Tables } from './tables.ts'

export default defineHandlers(operations, ({ onShutdown }) => {
  const mailer = createMailer(process.env.SMTP_URL, join(process.env.DATA_DIR ?? '.data', 'mail'))
  onShutdown(() => mailer.close())

  return {
    'todo.create': {
      settle: async (trx: Transaction<Tables>, jobs) => {
        // If the job is a retry, the todo is failed or canceled until now, as abandon left it.
        const ids = jobs.map((job) => job.payload.todoId)
        await trx.updateTable('todo').set({ status: 'ready' }).where('id', 'in', ids).execute()
      },
      batchSize: 100,
    },

    'reminder.send': {
      concurrency: 10,
      perform: async (job) => {
        const { email, title } = job.payload
        const messageId = `<${job.idempotencyKey}@todos.example.com>`
        await mailer.send({ to: email, title, messageId }).catch((error) => {
          throw toJobError(error)
        })
        return { messageId }
      },
      settle: async (trx: Transaction<Tables>, jobs) => {
        for (const { payload, result } of jobs) {
          await trx
            .updateTable('reminder')
            .set({ status: 'sent', message_id: result.messageId, sent_at: new Date() })
            .where('id', '=', payload.reminderId)
            .execute()
        }
      },
    },
  }
})

/**
 * Converts an error with a 5xx reply into an error that fails the job without further retries. A 5xx reply is permanent
 * (RFC 5321, section 4.2.1).
 */
function toJobError(error: unknown): unknown {
  const { responseCode } = error as { responseCode?: number }
  if (responseCode === undefined || responseCode < 500) return error
  return new JobFailed('smtp-rejected', `The mail server rejected the reminder (${responseCode})`, { cause: error })
}
