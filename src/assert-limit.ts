import type { Limit } from './operation-options.ts'
import { assertOptions } from './primitives/assert-options.ts'
import { parseRate } from './rate.ts'

const maxConcurrency = 2 ** 31 - 1

interface LimitedOperation {
  limit: Limit | undefined
  groupConcurrency: number | undefined
  maxBacklogPerPrincipal: number | undefined
}

/**
 * Returns what is wrong with the option `limit` of an operation, as the rest of a sentence that starts with `limit`;
 * undefined if nothing is.
 *
 * @throws TypeError that names a misspelt option
 */
export function problemOfLimit({
  limit,
  groupConcurrency,
  maxBacklogPerPrincipal,
}: LimitedOperation): string | undefined {
  if (!limit) return undefined
  assertOptions('limit', limit, ['key', 'rate', 'concurrency'])
  const { key, rate, concurrency } = limit as Partial<Record<keyof Limit, unknown>>
  if (key !== undefined && typeof key !== 'function') return `.key must be of type function, not ${typeof key}`
  if (rate === undefined && concurrency === undefined) return ' requires rate or concurrency'
  if (rate !== undefined && !parseRate(rate)) {
    return `.rate must be a number of starts and a period of at most 31 days, for example '100/1m', not '${rate}'`
  }
  const isCount =
    Number.isInteger(concurrency) && (concurrency as number) >= 1 && (concurrency as number) <= maxConcurrency
  if (concurrency !== undefined && !isCount) {
    return `.concurrency must be an integer from 1 to ${maxConcurrency}, not ${concurrency}`
  }
  // The queue finds the jobs of an operation with a limit by their keys, not by their principals.
  if (maxBacklogPerPrincipal !== undefined) return ' cannot be combined with maxBacklogPerPrincipal; use maxBacklog'
  return groupConcurrency === undefined ? undefined : ' cannot be combined with groupConcurrency; use limit.concurrency'
}
