import { defineOperation } from 'accepted'
import Type from 'typebox'

/** The batch of reminders enqueues this job when its last reminder has ended: see routes.ts. */
export const reportOverdue = defineOperation({
  name: 'overdue.report',
  summary: 'Record how many reminders of overdue todos were sent',
  input: Type.Object({ email: Type.String() }),
})
