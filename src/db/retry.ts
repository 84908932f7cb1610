import { setTimeout as delay } from 'node:timers/promises'
import { errorCode, isContention, isLostConnection, isOutage, sqlstate } from './sqlstate.ts'

/** Why a transaction may run again. In every case Postgres has rolled it back. */
export type RetryReason = 'contention' | 'lost-connection' | 'outage' | 'disk-full'

/** How often work runs again after a rollback. The only loop that retries transactions is {@link withTransactionRetry}. */
export interface RetryPolicy {
  /** Per reason; a reason that is not listed is not retried. */
  maxRetries: Readonly<Partial<Record<RetryReason, number>>>
  /** The first pause, at most, in milliseconds; it doubles with each retry. Default 20. */
  baseDelayMs?: number
  /** Upper bound of the pause, in milliseconds. Default 1,000. */
  maxDelayMs?: number
  /** Narrows the retries further. Default: every error with a reason is retried. */
  isRetryable?(error: unknown): boolean
  /** Aborts when nothing may run again. */
  signal?: AbortSignal
  onRetry?(reason: RetryReason): void
}

/** For transactions of many processes that start at once and write the same few rows. */
const startupPolicy: RetryPolicy = { maxRetries: { contention: 8 }, maxDelayMs: 5_000 }

function retryReason(error: unknown): RetryReason | undefined {
  if (isContention(error)) return 'contention'
  if (isLostConnection(error)) return 'lost-connection'
  if (!isOutage(error)) return undefined
  return errorCode(error) === sqlstate.diskFull ? 'disk-full' : 'outage'
}

/**
 * Runs work that starts with nothing and ends in a commit or a rollback, and runs it again as the policy allows, after
 * growing pauses.
 *
 * @throws the error of the last run
 */
export async function withTransactionRetry<Result>(work: () => Promise<Result>, policy: RetryPolicy): Promise<Result> {
  const { maxRetries, baseDelayMs = 20, maxDelayMs = 1_000, isRetryable = () => true, signal, onRetry } = policy
  const retries: Record<RetryReason, number> = { contention: 0, 'lost-connection': 0, outage: 0, 'disk-full': 0 }
  for (let round = 0; ; round++) {
    try {
      return await work()
    } catch (error) {
      const reason = retryReason(error)
      const isAllowed = reason !== undefined && retries[reason] < (maxRetries[reason] ?? 0) && isRetryable(error)
      if (!isAllowed || signal?.aborted) throw error
      retries[reason] += 1
      onRetry?.(reason)
      // Half of the pause is random, so that transactions that collided do not collide again.
      const pauseMs = (0.5 + Math.random() / 2) * Math.min(baseDelayMs * 2 ** round, maxDelayMs)
      await delay(pauseMs, undefined, { signal }).catch(() => {})
    }
  }
}

/** Runs work again when it lost a race against other processes that start at the same time: up to 8 times. */
export const retryOnContention = <Result>(work: () => Promise<Result>): Promise<Result> =>
  withTransactionRetry(work, startupPolicy)
