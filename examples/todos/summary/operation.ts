import { defineOperation, defineSchedule } from 'accepted'
import type { Transaction } from 'kysely'
import Type from 'typebox'
import type { Tables } from '../tables.ts'

/** Has no route: it is the follow-up of jobs that change todos. See refresh-later.ts. */
export const refreshSummary = defineOperation({
  name: 'summary.refresh',
  summary: 'Refresh the summary of the todos',
  input: Type.Object({}),
  // Otherwise, the next change would enqueue no refresh, because one seems to be waiting.
  abandon: async (trx: Transaction<Tables>) => {
    await trx.updateTable('todo_summary').set({ stale_since: null }).execute()
  },
})

/** At midnight, todos become overdue without a change that would refresh the summary. */
export const midnightSummary = defineSchedule({
  name: 'midnight-summary',
  cron: '0 0 * * *',
  operation: refreshSummary,
  payload: {},
  missed: 'once',
})
