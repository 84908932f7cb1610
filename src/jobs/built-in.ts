import type { Operation } from '../operation.ts'
import { batchOperation } from './batch.ts'
import { bulkOperation } from './bulk.ts'
import { deliverWebhook } from './webhook-delivery.ts'

/** The operations that every app has. */
export const builtInOperations: readonly Operation[] = [deliverWebhook, batchOperation, bulkOperation]

/** Adds the built-in operations to those of an app. */
export const withBuiltIn = (operations: ReadonlyMap<string, Operation>): Map<string, Operation> =>
  new Map([...operations, ...builtInOperations.map((operation) => [operation.name, operation] as const)])
