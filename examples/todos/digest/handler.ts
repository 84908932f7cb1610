import type { Handler } from 'accepted/worker'
import type { Kysely } from 'kysely'
import type { Mailer } from '../mail.ts'
import type { Tables } from '../tables.ts'
import type { sendDigest } from './operation.ts'

/** The e-mail names this many overdue todos. Its subject counts all of them. */
const maxTitles = 20

export const sendDigestHandler = (db: Kysely<Tables>, mailer: Mailer, to: string) =>
  ({
    perform: async ({ payload: { day } }) => {
      const overdue = db.selectFrom('todo').where('status', '=', 'ready').where('completed_at', 'is', null)
      const due = overdue.where('due_by', '<', day as unknown as Date)
      const [titles, counted] = await Promise.all([
        due.select('title').orderBy('due_by').orderBy('id').limit(maxTitles).execute(),
        due.select((eb) => eb.fn.countAll().as('count')).executeTakeFirstOrThrow(),
      ])
      const count = Number(counted.count)
      await mailer.send({
        to,
        subject: `${count} overdue todos on ${day}`,
        text: titles.map(({ title }) => `- ${title}\n`).join('') || 'No todo is overdue.\n',
        // From the day, not from the job: a backfill of the same day is another job, but the same e-mail.
        messageId: `<digest-${day}@todos.example.com>`,
      })
      return { overdue: count }
    },
  }) satisfies Handler<typeof sendDigest>
