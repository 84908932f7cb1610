import { defineOperation, defineSchedule } from 'accepted'
import Type from 'typebox'

export const sendDigest = defineOperation({
  name: 'digest.send',
  summary: 'Send an e-mail with the todos that are overdue',
  input: Type.Object({ day: Type.String({ format: 'date' }) }),
  result: Type.Object({ overdue: Type.Integer() }),
})

/** Each night becomes one job, however many workers run. */
export const nightlyDigest = defineSchedule({
  name: 'nightly-digest',
  cron: '0 3 * * *',
  operation: sendDigest,
  payload: (at) => ({ day: at.toISOString().slice(0, 10) }),
  missed: 'once',
})
