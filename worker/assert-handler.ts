/**
 * Each job with an idempotency key takes an advisory lock. The lock table of Postgres has room for a few thousand
 * locks.
 */
const maxBatchSize = 1_000

const members = ['perform', 'settle', 'batchSize', 'concurrency', 'isolate', 'memoryLimit']

/**
 * Checks a handler. Users of JavaScript have no compiler that does so, and the jobs of a handler with a misspelt
 * `perform` would succeed without any work.
 *
 * @throws TypeError that names the handler and its invalid member
 */
export function assertHandler(name: string, handler: unknown): void {
  const ensure = (isValid: boolean, message: string) => {
    if (!isValid) throw new TypeError(`The handler of '${name}': ${message}`)
  }
  ensure(typeof handler === 'object' && handler !== null, 'it must be an object with perform, settle or both')
  const { perform, settle, batchSize, concurrency } = handler as Record<string, unknown>
  const unknown = Object.keys(handler as object).find((member) => !members.includes(member))
  ensure(unknown === undefined, `there is no option '${unknown}'; the options are ${members.join(', ')}`)
  ensure(settle === undefined || typeof settle === 'function', 'settle must be a function')
  ensure(perform !== undefined || settle !== undefined, 'it must have perform, settle or both')
  ensure(isCount(batchSize, maxBatchSize), `batchSize must be an integer from 1 to ${maxBatchSize}, not ${batchSize}`)
  ensure(isCount(concurrency, Infinity), `concurrency must be an integer of at least 1, not ${concurrency}`)
}

const isCount = (value: unknown, maximum: number) =>
  value === undefined || (Number.isInteger(value) && (value as number) >= 1 && (value as number) <= maximum)
