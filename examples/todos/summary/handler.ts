import type { Handler } from 'accepted/worker'
import { sql, type Transaction } from 'kysely'
import type { Tables } from '../tables.ts'
import type { refreshSummary } from './operation.ts'

export const refreshSummaryHandler = {
  settle: async (trx: Transaction<Tables>) => {
    // Two statements, because a statement sees only what was committed before it began. The first waits for the
    // transactions that rely on this refresh, so the second sees their todos. Later ones enqueue another refresh.
    await trx.updateTable('todo_summary').set({ stale_since: null }).execute()
    await sql`
      update todo_summary set (todos, completed, overdue, average_completion_seconds, refreshed_at) = (
        select
          count(*), count(completed_at), count(*) filter (where completed_at is null and due_by < (now() at time zone 'UTC')::date),
          extract(epoch from avg(completed_at - created_at)), now()
        from todo where status = 'ready'
      )`.execute(trx)
  },
} satisfies Handler<typeof refreshSummary>
