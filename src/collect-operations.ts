import { batchName, bulkName, deliveryName, type Operation } from './operation.ts'

/** Returns whether a value was made by `defineOperation`. */
export const isOperation = (value: unknown): value is Operation =>
  typeof value === 'object' && value !== null && 'name' in value && 'schemas' in value && 'retry' in value

/**
 * Collects the operations of a module namespace or of any other object. Ignores values that are not operations.
 *
 * @returns the operations by name
 * @throws TypeError when there is no operation, when two operations have the same name, or when an operation has the
 *   name of a built-in operation
 */
export function collectOperations(record: object): Map<string, Operation> {
  const operations = new Map<string, Operation>()
  for (const value of Object.values(record)) {
    if (!isOperation(value)) continue
    if ([deliveryName, batchName, bulkName].includes(value.name)) {
      throw new TypeError(
        `Operation '${value.name}': this name is reserved for a built-in operation; choose another name`,
      )
    }
    const other = operations.get(value.name)
    if (other && other !== value) {
      throw new TypeError(`Two operations are named '${value.name}'; an operation's name must be unique`)
    }
    operations.set(value.name, value)
  }
  if (operations.size === 0) throw new TypeError('The operations module exports no operation made by defineOperation')
  return operations
}
