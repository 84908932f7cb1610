import type { LockWait } from '../../src/db/locks.ts'
import { commitStatement, pipeline } from '../../src/db/pipeline.ts'
import { useGenericPlan } from '../../src/db/plan-settings.ts'
import { withTransactionRetry } from '../../src/db/transaction-retry.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import { readable } from '../../src/primitives/thrown.ts'
import type { BegunJob } from '../../src/queue/begun-job.ts'
import type { Claim } from '../../src/queue/claim.ts'
import { findPayloadMismatch } from '../../src/validation.ts'
import { AttemptTimeout, JobCanceled, SchemaMismatch } from '../errors.ts'
import type { PerformHandler } from '../handlers.ts'
import type { PerformingJob } from '../running-job.ts'
import type { Cancellations } from './cancellation.ts'
import { type Completer, completeOrBisect } from './completer.ts'
import { findProcessed } from './deduplicate.ts'
import { createDependencyReader } from './dependencies.ts'
import { effectKeyOf } from './effect-key.ts'
import { runInHandlerScope } from './handler-scope.ts'
import { describeJob, type OperationWorker, openPayload, transactionPolicy } from './operation-worker.ts'
import type { PerformedAttempt } from './outcome.ts'
import { byId, findPending, lockPending, type PendingJob } from './pending-jobs.ts'
import type { ProgressWriter } from './progress.ts'
import { releaseClaims } from './release.ts'
import type { RunTimes } from './run-times.ts'
import { writeRunning } from './write-running.ts'

/** What the executors of all operations of a process share. */
export interface RunContext {
  progress: ProgressWriter
  cancellations: Cancellations
  runTimes: RunTimes
  /** Aborts when the worker stops. From then on, no job begins and no outcome is recorded. */
  stopping: AbortSignal
}

type PerformContext = RunContext & { completer: Completer }

/** How long until jobs that could not begin are due again, in seconds. */
const beginFailureDelaySeconds = 5

/** Runs claimed jobs of a handler without `perform`: settles all jobs in one transaction. */
export async function runBatch(worker: OperationWorker, claims: readonly Claim[], context: RunContext): Promise<void> {
  const startedAt = performance.now()
  const batch = claims.map((claim) => ({ claim, startedAt }))
  await completeOrBisect(worker, batch, context)
  worker.metrics.observeRun(worker.operation.name, secondsSince(startedAt), claims.length)
}

/**
 * Runs claimed jobs of a handler with `perform`. Begins all jobs together. Then performs and finishes each job
 * separately. If the jobs cannot begin, releases them.
 *
 * @param onEnd called when a job no longer uses its slot
 * @returns whether all jobs have begun
 */
export async function runEach(
  worker: OperationWorker,
  claims: readonly Claim[],
  context: PerformContext,
  onEnd: (claim: Claim) => void,
): Promise<boolean> {
  let begun: BegunJobs
  try {
    begun = await begin(worker, claims, context, claims.length > 1 ? 'skip' : 'wait')
  } catch (err) {
    worker.log.error({ err }, `Jobs could not begin; they are released and due again in ${beginFailureDelaySeconds} s`)
    if (!context.stopping.aborted) await releaseClaims(worker, claims, beginFailureDelaySeconds)
    claims.forEach(onEnd)
    return false
  }
  worker.notifier.notify('status', begun.running.keys())
  const free = claims.filter(({ jobId }) => !begun.locked.has(jobId))
  const locked = claims.filter(({ jobId }) => begun.locked.has(jobId))
  // Runs each locked job separately, so that the other jobs do not wait for its lock.
  const later = locked.map((claim) => runEach(worker, [claim], context, onEnd))
  await Promise.all(free.map((claim) => runOne(worker, claim, begun, context).finally(() => onEnd(claim))))
  return (await Promise.all(later)).every((hasBegun) => hasBegun)
}

async function runOne(worker: OperationWorker, claim: Claim, begun: BegunJobs, context: PerformContext): Promise<void> {
  const { metrics, operation } = worker
  const row = begun.running.get(claim.jobId)
  // The handler does not run when the job was canceled, has ended, has no record or is a duplicate.
  if (!row || begun.duplicates.has(claim.jobId)) {
    await context.completer.finish({ claim, isUnperformed: true })
    return
  }
  const startedAt = performance.now()
  worker.spans?.begin(claim, row)
  const work = () => perform(worker, claim, row, context)
  const performing = worker.spans ? worker.spans.perform(claim, work) : work()
  const attempt = await performing.catch((error: unknown) => ({ claim, error: readable(error) }))
  const report = context.progress.take(claim.jobId)
  const isWholeBatch = await context.completer.finish({ ...attempt, report, startedAt })
  // Records no run time for a failed attempt or a bisected batch. Bisecting takes longer than the job itself.
  if (isWholeBatch) context.runTimes.record(operation.name, secondsSince(startedAt))
  metrics.observeRun(operation.name, secondsSince(startedAt), 1)
}

interface BegunJobs {
  running: ReadonlyMap<string, BegunJob>
  duplicates: ReadonlyMap<string, string>
  /** Jobs that have not begun, because another transaction has locked them. */
  locked: ReadonlySet<string>
}

/**
 * Sets jobs to running, unless their claim has done so. Also finds duplicates, which are jobs whose key another job has
 * already processed.
 */
async function begin(
  worker: OperationWorker,
  claims: readonly Claim[],
  { stopping }: RunContext,
  lockWait: LockWait,
): Promise<BegunJobs> {
  const { operation, database } = worker
  const begun = claims.flatMap((claim) => claim.begun ?? [])
  const others = claims.filter((claim) => !claim.begun)
  const ids = others.map(({ jobId }) => jobId)
  const noRows = [undefined, new Map<string, PendingJob>(), new Map<string, BegunJob>()] as const
  const setRunning = (kyselyTrx: unknown) =>
    pipeline(kyselyTrx as AnyTransaction, (trx) => [
      useGenericPlan(trx),
      // Locks the jobs in a separate statement: a statement that waits for a lock reads the queue as it was before the
      // wait.
      lockPending(trx, ids, lockWait),
      writeRunning(trx, worker, others),
      commitStatement(trx),
    ])
  const beginOnce = async () => {
    const [, pending, started] = ids.length > 0 ? await database.kysely.transaction().execute(setRunning) : noRows
    const running = new Map([...byId(begun), ...started])
    const taken = [...running.values()].filter(({ is_key_taken }) => is_key_taken)
    const notLocked = lockWait === 'skip' ? ids.filter((id) => !pending.has(id)) : []
    return {
      running,
      duplicates: await findProcessed(database.kysely, operation, taken),
      locked: await findPending(database.kysely, notLocked),
    }
  }
  // A retry is harmless: a second beginning changes only the times that clients see.
  return withTransactionRetry(beginOnce, transactionPolicy(worker, stopping))
}

/** Runs the handler's `perform` until it ends or times out, or until the job is canceled. */
async function perform(
  worker: OperationWorker,
  claim: Claim,
  row: BegunJob,
  context: RunContext,
): Promise<PerformedAttempt> {
  const { operation } = worker
  const handler = worker.handler as PerformHandler<typeof operation>
  const payload = openPayload(worker, claim, row)
  const mismatch = findPayloadMismatch(operation, payload)
  if (mismatch) throw new SchemaMismatch('payload', operation.name, mismatch)
  const { signal, abort, dispose } = attemptSignal(operation.timeoutSeconds, row.id, context)
  let resource: string | undefined
  const job: PerformingJob = {
    ...describeJob(worker, claim, row, payload),
    effectKey: effectKeyOf(operation.name, row.principal, row.idempotency_key ?? row.id),
    signal,
    dependencies: createDependencyReader(worker, worker.database.kysely, [row.id])(row.id),
    progress: context.progress.begin(row),
    setResource: (path) => {
      resource = path
    },
  }
  try {
    const performing = runInHandlerScope({ log: job.log, fail: abort }, () => handler.perform(job))
    // An isolated handler keeps its slot until it has ended or was killed. The job is retried only after that, so that
    // two attempts never run at the same time.
    const result = await (worker.handler.isolate ? performing : Promise.race([performing, rejectOnAbort(signal)]))
    // A handler that returns because of the abort has not done its work.
    signal.throwIfAborted()
    return { claim, result, resource }
  } finally {
    dispose()
  }
}

/** Creates the signal of an attempt. It aborts when the attempt times out, the job is canceled, or the worker stops. */
function attemptSignal(timeoutSeconds: number, jobId: string, { stopping, cancellations }: RunContext) {
  const controller = new AbortController()
  const abort = (reason: unknown) => controller.abort(reason)
  const stop = () => abort(stopping.reason)
  stopping.addEventListener('abort', stop, { once: true })
  if (stopping.aborted) stop()
  const unwatch = cancellations.watch(jobId, () => abort(new JobCanceled()))
  const timer = setTimeout(() => abort(new AttemptTimeout(timeoutSeconds)), timeoutSeconds * 1000)
  return {
    signal: controller.signal,
    abort,
    // A worker runs millions of attempts, so each attempt must remove its listeners.
    dispose() {
      clearTimeout(timer)
      unwatch()
      stopping.removeEventListener('abort', stop)
    },
  }
}

const rejectOnAbort = (signal: AbortSignal): Promise<never> =>
  new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason)
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })

const secondsSince = (startedAt: number) => (performance.now() - startedAt) / 1000
