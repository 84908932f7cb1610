import type { LockWait } from '../../src/db/locks.ts'
import { type TransactionPolicy, transact } from '../../src/db/transaction.ts'
import type { Retries } from '../../src/db/transaction-retry.ts'
import { abandonFailed } from '../../src/jobs/endings.ts'
import type { AnyTransaction, Operation } from '../../src/operation.ts'
import { createBatcher } from '../../src/primitives/batcher.ts'
import { runBisecting } from '../../src/primitives/bisect.ts'
import { messageOf, storableMessage } from '../../src/primitives/error-text.ts'
import type { Claim } from '../../src/queue/claim.ts'
import { LostClaim } from '../../src/queue/lost-claim.ts'
import type { SettleSpans } from './attempt-spans.ts'
import { logFailure } from './fail.ts'
import { type FinishResult, finishAttempts } from './finish.ts'
import { announce, type OperationWorker, transactionPolicy } from './operation-worker.ts'
import type { EndedAttempts, PerformedAttempt, ThrownAttempt } from './outcome.ts'
import { traceSettle } from './trace-settle.ts'

/** Maximum number of attempts that one transaction finishes. */
const maxBatchSize = 100
/**
 * Maximum number of such transactions at the same time. With `oneByOne`, each of them waits for its own commit. On two
 * processors, the third completes a sixth more jobs per second than two do, and a fourth completes fewer.
 */
export const maxConcurrentBatches = ({ oneByOne }: Operation): number => (oneByOne ? 4 : 3)

/**
 * Finishes the attempts of one operation. Attempts whose `perform` returns at about the same time share a transaction.
 */
export interface Completer {
  /**
   * Resolves when the attempt is finished. Never rejects: a job whose outcome cannot be recorded is rescued when its
   * heartbeat is overdue.
   *
   * @returns true when the attempt completed in one transaction with its whole batch; false when the attempt failed or
   *   its batch was split
   */
  finish(attempt: PerformedAttempt | ThrownAttempt): Promise<boolean>
}

interface CompletingAttempt extends PerformedAttempt {
  /** @param isWholeBatch whether the job completed in one transaction with its whole batch */
  onEnd?(isWholeBatch: boolean): void
}

export function createCompleter(worker: OperationWorker, context: { stopping: AbortSignal }): Completer {
  const batcher = createBatcher<CompletingAttempt>({
    maxBatchSize: worker.operation.oneByOne ? 1 : maxBatchSize,
    maxConcurrentBatches: maxConcurrentBatches(worker.operation),
    run: (batch) => completeOrBisect(worker, batch, context),
  })
  return {
    async finish(attempt) {
      if (!('error' in attempt)) return new Promise((onEnd) => batcher.push({ ...attempt, onEnd }))
      await finishThrown(worker, attempt, context)
      return false
    },
  }
}

/**
 * Completes a batch in one transaction. If the transaction fails, bisects the batch: each half runs in its own
 * transaction, and a half that fails is bisected again. So only the attempts that cannot complete fail. Jobs that
 * another transaction has locked are completed last, each in its own transaction. With `oneByOne`, all attempts
 * complete in their own transactions.
 */
export async function completeOrBisect(
  worker: OperationWorker,
  batch: readonly CompletingAttempt[],
  { stopping }: { stopping: AbortSignal },
): Promise<void> {
  const locked: CompletingAttempt[] = []
  const complete = async (attempts: readonly CompletingAttempt[], lockWait: LockWait) => {
    const result = await finishTogether(worker, attempts, lockWait, transactionPolicy(worker, stopping))
    const isWholeBatch = attempts.length === batch.length
    for (const attempt of attempts) {
      if (result.locked.has(attempt.claim.jobId)) locked.push(attempt)
      else attempt.onEnd?.(isWholeBatch)
    }
  }
  const bisect = (attempts: readonly CompletingAttempt[], lockWait: LockWait) =>
    runBisecting(attempts, {
      run: (some) => complete(some, lockWait),
      // A stopping worker finishes nothing more. It releases every claim that it still holds.
      canSplit: () => !stopping.aborted,
      onSplit: () => worker.metrics.countRetry(worker.operation.name, 'bisected'),
      async onFailure(some, error) {
        for (const { claim, report } of some) await finishThrown(worker, { claim, error, report }, { stopping })
        for (const { onEnd } of some) onEnd?.(false)
      },
    })
  const together = worker.operation.oneByOne ? batch.map((attempt) => [attempt]) : [batch]
  for (const attempts of together) {
    if (!stopping.aborted) await bisect(attempts, batch.length > 1 ? 'skip' : 'wait')
  }
  for (const attempt of locked.splice(0)) await bisect([attempt], 'wait')
}

const errorNotStored = new Error('The attempt failed, and its error could not be stored')

/** Finishes an attempt that threw, in a transaction of its own. Never rejects. Does nothing once the worker stops. */
async function finishThrown(
  worker: OperationWorker,
  { claim, error, report }: ThrownAttempt,
  { stopping }: { stopping: AbortSignal },
): Promise<void> {
  if (error instanceof LostClaim) {
    if (!stopping.aborted) reportLost(worker, claim, error)
    return
  }
  const policy = transactionPolicy(worker, stopping)
  // Contention and a full disk are retried without limit. Where no code of the app runs in the transaction, both are
  // temporary.
  const endless = { ...policy, maxRetries: { ...policy.maxRetries, contention: Infinity, 'disk-full': Infinity } }
  const job = { job: claim.jobId, attempt: claim.attempt }
  /** @returns the error of the transaction, or undefined when nothing is left to do */
  const finish = async (cause: unknown, usedPolicy: TransactionPolicy, abandonFailure?: string) => {
    // A stopping worker finishes nothing more. It releases every claim that it still holds.
    if (stopping.aborted) return
    try {
      await finishTogether(
        worker,
        [{ claim, error: cause, ...(cause === error && { report }) }],
        'wait',
        usedPolicy,
        abandonFailure,
      )
    } catch (err) {
      if (stopping.aborted) return
      if (!(err instanceof LostClaim)) return err as Error
      reportLost(worker, claim, err)
    }
  }
  let abandonFailure: string | undefined
  if (worker.operation.abandon) {
    const err = await finish(error, policy)
    if (!err) return
    worker.metrics.countAbandonFailure(worker.operation.name)
    worker.log.error({ err, ...job }, abandonFailed)
    abandonFailure = storableMessage(messageOf(err))
  }
  for (const [cause, next] of [
    [error, 'The error of the attempt could not be stored; recording the failure without that error'],
    [errorNotStored, 'The failure could not be recorded; the job is rescued when its heartbeat is overdue'],
  ] as const) {
    const err = await finish(cause, endless, abandonFailure)
    if (!err) return
    worker.log.error({ err, ...job }, next)
  }
  worker.spans?.end(claim, 'lost', error)
}

function reportLost({ operation, metrics, log, spans }: OperationWorker, claim: Claim, error: LostClaim): void {
  const { jobId, attempt } = claim
  spans?.end(claim, 'lost', error)
  metrics.countOutcomes(operation.name, { lost: 1 })
  log.warn({ job: jobId, attempt }, 'Claim lost; the effects of this attempt were rolled back')
}

/** Finishes attempts in one transaction. Then announces and logs their outcomes. */
async function finishTogether(
  worker: OperationWorker,
  attempts: EndedAttempts,
  lockWait: LockWait,
  policy: TransactionPolicy,
  abandonFailure?: string,
): Promise<FinishResult> {
  const run = (spans?: SettleSpans) => {
    const work = (trx: unknown, { contention }: Retries) => {
      const options = { abandonFailure, takesTurns: contention > 0, spans }
      return finishAttempts(worker, trx as AnyTransaction, attempts, lockWait, options)
    }
    return transact(worker.database, work, policy)
  }
  const result = worker.spans ? await traceSettle(worker.spans, attempts, run) : await run()
  announce(worker, result)
  logCompleted(worker, result.completed)
  for (const failure of result.failures) logFailure(worker, failure)
  for (const { jobId, attempt } of result.canceled) worker.log.info({ job: jobId, attempt }, 'Job canceled')
  return result
}

/** Logs each completed attempt at the level `debug`, which is for development: a busy worker completes thousands. */
function logCompleted({ log }: OperationWorker, attempts: readonly PerformedAttempt[]): void {
  if (!log.isLevelEnabled('debug')) return
  for (const { claim, startedAt } of attempts) {
    const ms = startedAt === undefined ? undefined : Math.round(performance.now() - startedAt)
    log.debug({ job: claim.jobId, attempt: claim.attempt, ms }, 'Attempt completed')
  }
}
