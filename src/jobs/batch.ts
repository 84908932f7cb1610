import Type from 'typebox'
import { batchName, defineOperation } from '../operation.ts'

/** A job that ends when its children have ended. No worker claims it: it has no row in the queue. */
export const batchOperation = defineOperation({
  name: batchName,
  summary: 'Jobs that belong together',
  retry: { limit: 0 },
  input: Type.Object({}),
  result: Type.Object({
    total: Type.Integer(),
    succeeded: Type.Integer(),
    failed: Type.Integer(),
    canceled: Type.Integer(),
  }),
})
