import type { SettlingJob } from 'accepted/worker'
import { sql, type Transaction } from 'kysely'
import type { Tables } from '../tables.ts'
import { refreshSummary } from './operation.ts'

/** However many todos change meanwhile, the summary is computed once in this time. */
const delayMs = 1_000

/**
 * Enqueues a refresh of the summary in the transaction that changes todos, unless one is waiting.
 *
 * The update locks the row until this transaction commits. So a refresh that starts meanwhile waits, and then sees the
 * changed todos.
 */
export async function refreshSummaryLater(trx: Transaction<Tables>, [job]: readonly SettlingJob[]): Promise<void> {
  const { isFirst } = await trx
    .updateTable('todo_summary')
    .set({ stale_since: sql`coalesce(stale_since, now())` })
    .returning(sql<boolean>`stale_since = now()`.as('isFirst'))
    .executeTakeFirstOrThrow()
  if (!isFirst) return
  // The summary is of all todos, so its job does not belong to the client whose todo has changed.
  await job?.enqueue(trx, refreshSummary, {}, { principal: 'summary', runAt: new Date(Date.now() + delayMs) })
}
