import { v7 as uuid7 } from 'uuid'
import { channels } from '../../src/db/notifier.ts'
import { enqueue } from '../../src/jobs/enqueue.ts'
import { createNote } from '../app/operations.ts'
import { withQueue } from './our-queue.ts'
import { query } from './server.ts'

/** Enqueues jobs that are due in an hour. Returns their ids. */
export const scheduleJobs = (url: string, principal: string, count: number): Promise<string[]> =>
  withQueue(url, [createNote], async ({ database, boss }) => {
    const runAt = new Date(Date.now() + 3_600_000)
    const jobs = Array.from({ length: count }, () => {
      const id = uuid7()
      return { id, operation: createNote, payload: { noteId: id }, principal, runAt }
    })
    await database.kysely.transaction().execute((trx) => enqueue(boss, trx, jobs))
    return jobs.map(({ id }) => id)
  })

/** Makes the jobs due now, and notifies the workers. */
export async function makeDue(url: string, ids: readonly string[]): Promise<void> {
  await query(url, 'update accepted_queue.job set start_after = now() where name = $1 and id = any($2::uuid[])', [
    createNote.name,
    ids,
  ])
  await query(url, 'select pg_notify($1, $2)', [channels.work, createNote.name])
}
