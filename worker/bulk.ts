import { type Kysely, sql } from 'kysely'
import type { Tables } from '../src/db/tables.ts'
import { retryOnContention } from '../src/db/transaction-retry.ts'
import { type bulkOperation, maxChangedTogether } from '../src/jobs/bulk.ts'
import { JobCanceled } from './errors.ts'
import type { PerformHandler } from './handlers.ts'

/** How many jobs one query finds or counts. */
const maxFound = 1_000

const verbs = { cancel: 'canceled', retry: 'retried', redrive: 'retried', undo: 'undone' } as const

interface Found {
  ids: string[]
  next: string | null
}

/**
 * Creates the handler that changes all jobs that a filter finds, the newest first. After a crash, it finds only those
 * that are left. Jobs that are accepted meanwhile are newer, so it does not find them.
 */
export function createBulkHandler(db: Kysely<Tables>): PerformHandler<typeof bulkOperation> {
  return {
    concurrency: 1,
    async perform(job) {
      const { id, payload, signal } = job
      const { action, filter } = payload
      const find = async (before: string | null) => {
        signal.throwIfAborted()
        const { rows } = await sql<Found>`
          select job_ids as ids, next_before as next from accepted.find_jobs(
            ${JSON.stringify({ ...filter, can: action })}::jsonb, ${before}::uuid, ${maxFound}::integer
          )`.execute(db)
        return rows[0] as Found
      }
      const done = { changed: 0, skipped: 0 }
      let total = 0
      // The message commits together with the changes that it counts, or neither does.
      const change = (ids: string[]) =>
        retryOnContention(() =>
          db.transaction().execute(async (trx) => {
            signal.throwIfAborted()
            const { rows } = await sql<{ changed: number }>`
              select accepted.change_jobs(${action}, ${ids}::uuid[], ${filter.since ?? null}::uuid) as changed`.execute(
              trx,
            )
            const changed = done.changed + (rows[0]?.changed ?? 0)
            const next = { changed, skipped: done.skipped + done.changed + ids.length - changed }
            await writeMessage(trx, job, describe(next, total, verbs[action]))
            return next
          }),
        )
      for await (const ids of pages(find, id)) {
        total += ids.length
        await writeMessage(db, job, `${total} found`)
        job.progress(0)
      }
      for await (const ids of pages(find, id)) {
        for (let start = 0; start < ids.length; start += maxChangedTogether) {
          Object.assign(done, await change(ids.slice(start, start + maxChangedTogether)))
          job.progress(Math.min(100, Math.floor((100 * (done.changed + done.skipped)) / total)))
        }
      }
      if (total === 0) await writeMessage(db, job, describe(done, total, verbs[action]))
      return { action, filter, ...done }
    },
  }
}

/**
 * Reports of progress are gathered before they are written, and dropped when the job ends. This message is written now.
 *
 * @throws JobCanceled when the job does not run any more, or is to be canceled
 */
async function writeMessage(
  db: Kysely<Tables>,
  { id, attempt }: { id: string; attempt: number },
  message: string,
): Promise<void> {
  const { numAffectedRows } = await sql`
    update accepted.job set message = ${message}, sequence = sequence + 1, updated_at = clock_timestamp()
    where id = ${id} and attempt = ${attempt} and status = 'running' and not cancel_requested`.execute(db)
  if (numAffectedRows === 0n) throw new JobCanceled()
}

const describe = ({ changed, skipped }: { changed: number; skipped: number }, total: number, verb: string) =>
  `${changed} of ${total} ${verb}${skipped > 0 ? `, ${skipped} left out` : ''}`

async function* pages(find: (before: string | null) => Promise<Found>, from: string): AsyncGenerator<string[]> {
  for (let before: string | null = from; before !== null; ) {
    const found: Found = await find(before)
    yield found.ids
    before = found.next
  }
}
