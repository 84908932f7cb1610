import Type from 'typebox'
import { bulkName, defineOperation } from '../operation.ts'

/** Of a batch of jobs, each is changed in a subtransaction. */
export const maxChangedTogether = 50

const Bulk = Type.Object({
  action: Type.Enum(['cancel', 'retry', 'redrive', 'undo']),
  filter: Type.Record(Type.String(), Type.Union([Type.String(), Type.Boolean()])),
})

/** Changes all jobs that a filter finds. `accepted.bulk` enqueues its jobs. */
export const bulkOperation = defineOperation({
  name: bulkName,
  summary: 'Cancel, retry or redrive many jobs',
  input: Bulk,
  // The payload of a job that has succeeded is not kept.
  result: Type.Object({
    ...Bulk.properties,
    changed: Type.Integer({ description: 'The number of jobs that were canceled or retried' }),
    skipped: Type.Integer({ description: 'The number of jobs that had changed before' }),
  }),
  timeoutSeconds: 6 * 60 * 60,
})
