import { setTimeout as delay } from 'node:timers/promises'
import { errorCode, isContention, isLostConnection, isOutage, isReadOnlyServer, sqlstate } from './sqlstate.ts'

/** Why a transaction may run again. Postgres has rolled it back, unless the connection broke during COMMIT. */
export type RetryReason = 'contention' | 'lost-connection' | 'outage' | 'disk-full'

/** How often a transaction was retried so far, by reason. */
export type Retries = Readonly<Record<RetryReason, number>>

/** How often a transaction is retried. The only loop that retries transactions is {@link withTransactionRetry}. */
export interface RetryPolicy {
  /** Maximum number of retries for each reason. Without a number for its reason, an error is not retried. */
  maxRetries: Readonly<Partial<Record<RetryReason, number>>>
  /** Upper bound of the first pause, in milliseconds. The bound doubles with each retry. Default 20. */
  baseDelayMs?: number
  /** Upper bound of the pause, in milliseconds. Default 1,000. */
  maxDelayMs?: number
  /** Returns false for an error that must not be retried, although `maxRetries` allows it. Default: always true. */
  isRetryable?(error: unknown): boolean
  /** Once the signal aborts, nothing is retried. */
  signal?: AbortSignal
  onRetry?(reason: RetryReason): void
}

/** For processes that start at the same time and write the same few rows. */
const startupPolicy: RetryPolicy = { maxRetries: { contention: 8 }, maxDelayMs: 5_000 }

function retryReason(error: unknown): RetryReason | undefined {
  if (isContention(error)) return 'contention'
  if (isLostConnection(error) || isReadOnlyServer(error)) return 'lost-connection'
  if (!isOutage(error)) return undefined
  return errorCode(error) === sqlstate.diskFull ? 'disk-full' : 'outage'
}

/**
 * Runs work that begins and ends its own transaction, and retries it as the policy allows, with growing pauses.
 *
 * @throws the error of the last run
 */
export async function withTransactionRetry<Result>(
  work: (retries: Retries) => Promise<Result>,
  policy: RetryPolicy,
): Promise<Result> {
  const { maxRetries, baseDelayMs = 20, maxDelayMs = 1_000, isRetryable = () => true, signal, onRetry } = policy
  const retries: Record<RetryReason, number> = { contention: 0, 'lost-connection': 0, outage: 0, 'disk-full': 0 }
  for (let round = 0; ; round++) {
    try {
      return await work(retries)
    } catch (error) {
      const reason = retryReason(error)
      const isAllowed = reason !== undefined && retries[reason] < (maxRetries[reason] ?? 0) && isRetryable(error)
      if (!isAllowed || signal?.aborted) throw error
      retries[reason] += 1
      onRetry?.(reason)
      // Up to half of the pause is random, so that transactions that have collided do not collide again.
      const pauseMs = (0.5 + Math.random() / 2) * Math.min(baseDelayMs * 2 ** round, maxDelayMs)
      await delay(pauseMs, undefined, { signal }).catch(() => {})
    }
  }
}

/** Runs work, and retries it up to 8 times when it collides with other processes that start at the same time. */
export const retryOnContention = <Result>(work: () => Promise<Result>): Promise<Result> =>
  withTransactionRetry(work, startupPolicy)
