import { type Kysely, sql } from 'kysely'
import type { Tables } from '../src/db/tables.ts'
import { retryOnContention } from '../src/db/transaction-retry.ts'
import { type bulkOperation, maxChangedTogether } from '../src/jobs/bulk.ts'
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
      const change = async (ids: string[]) => {
        signal.throwIfAborted()
        const { rows } = await retryOnContention(() =>
          sql<{ changed: number }>`
            select accepted.change_jobs(${action}, ${ids}::uuid[], ${filter.since ?? null}::uuid) as changed`.execute(
            db,
          ),
        )
        return rows[0]?.changed ?? 0
      }
      let total = 0
      for await (const ids of pages(find, id)) {
        total += ids.length
        job.progress(0, `${total} found`)
      }
      const done = { changed: 0, skipped: 0 }
      for await (const ids of pages(find, id)) {
        for (let start = 0; start < ids.length; start += maxChangedTogether) {
          const chunk = ids.slice(start, start + maxChangedTogether)
          const changed = await change(chunk)
          done.changed += changed
          done.skipped += chunk.length - changed
          const processed = done.changed + done.skipped
          job.progress(Math.min(100, Math.floor((100 * processed) / total)), describe(done, total, verbs[action]))
        }
      }
      job.progress(100, describe(done, total, verbs[action]))
      return { action, filter, ...done }
    },
  }
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
