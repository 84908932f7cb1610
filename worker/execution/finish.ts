import { sql } from 'kysely'
import type { LockWait } from '../../src/db/locks.ts'
import { pipeline } from '../../src/db/pipeline.ts'
import { useGenericPlan } from '../../src/db/plan-settings.ts'
import { followEnds, waitForSiblings } from '../../src/jobs/relatives.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import type { Claim } from '../../src/queue/claim.ts'
import { LostClaim } from '../../src/queue/lost-claim.ts'
import { RetryAfter } from '../errors.ts'
import { abandonClaimed, type DecidedEnd, decideEnds } from './abandon.ts'
import type { SettleSpans } from './attempt-spans.ts'
import { writeAwaiting } from './children.ts'
import { type LockedJobs, originalPauseSeconds } from './deduplicate.ts'
import { type FailedAttempt, type WrittenFailure, writeFailures } from './fail.ts'
import { registerFinishCheck } from './finish-check.ts'
import { removeFromQuarantine, writeCanceled, writeDuplicates, writeSucceeded } from './job-status.ts'
import { findLocked, lockJobs } from './lock-jobs.ts'
import type { CommitResult, OperationWorker } from './operation-worker.ts'
import { type EndedAttempts, outcomeOf, type PerformedAttempt, type ThrownAttempt } from './outcome.ts'
import { type ProgressReport, progressUpdate } from './progress.ts'
import { failUnknown, retryRequeued } from './retry-requeued.ts'
import { runSettle } from './run-settle.ts'

/** What a finishing transaction has changed. */
export interface FinishResult extends CommitResult {
  /** Jobs that were left out, because another transaction has locked their row or their key. */
  locked: ReadonlySet<string>
  completed: readonly PerformedAttempt[]
  failures: readonly WrittenFailure[]
  canceled: readonly Claim[]
  /** Claims whose job had already ended, or has no record. */
  ended: readonly Claim[]
}

export interface FinishOptions {
  /**
   * Why the `abandon` of the operation has failed. Then jobs that fail or are canceled do not end: their end is decided
   * (`accepted.ending`), and they end later.
   */
  abandonFailure?: string | undefined
  /** Whether to take turns with transactions that end other children of the same parents. */
  takesTurns?: boolean
  /** Undefined if the app does not trace. */
  spans?: SettleSpans | undefined
}

/**
 * Finishes attempts in one transaction, each according to its outcome. For an attempt that completes, four changes
 * commit together or not at all: the key, the writes of `settle`, the status, and the deletion of the queue row.
 *
 * Finishing and canceling take locks in the same order: `accepted.job` by id, keys, the handler's rows, the queue.
 *
 * @param lockWait `skip` leaves out jobs that another transaction has locked, and returns them as `locked`
 * @throws LostClaim when this worker no longer holds one of the claims
 */
export async function finishAttempts(
  worker: OperationWorker,
  trx: AnyTransaction,
  attempts: EndedAttempts,
  lockWait: LockWait,
  { abandonFailure, takesTurns = false, spans }: FinishOptions = {},
): Promise<FinishResult> {
  const ids = attempts.map(({ claim }) => claim.jobId)
  if (takesTurns) await waitForSiblings(trx, ids)
  const jobs = await lockJobs(worker, trx, attempts, lockWait)
  const locked = lockWait === 'skip' ? await findLocked(trx, attempts, jobs) : new Set<string>()
  const free = attempts.filter(({ claim }) => !locked.has(claim.jobId))
  if (free.length === 0) {
    return { jobs: [], enqueued: [], outcomes: {}, completed: [], failures: [], canceled: [], ended: [], locked }
  }
  const work = () => finishLocked(worker, trx, free, jobs, abandonFailure)
  const claims = free.map(({ claim }) => claim)
  return { ...(await (spans ? spans.run(claims, jobs.pending, work) : work())), locked }
}

/** Finishes attempts whose jobs this transaction has locked. */
async function finishLocked(
  worker: OperationWorker,
  trx: AnyTransaction,
  free: readonly (PerformedAttempt | ThrownAttempt)[],
  jobs: LockedJobs,
  abandonFailure: string | undefined,
): Promise<Omit<FinishResult, 'locked'>> {
  const { boss } = worker
  const { pending, duplicates } = jobs
  const { completed, failed, canceled, ended } = groupByOutcome(free, jobs)
  const { enqueued: requeued, unknown } = await retryRequeued(worker, trx, ended)
  const fresh = completed.filter(({ claim }) => !duplicates.has(claim.jobId))
  const { completions, enqueued, parents } = await runSettle(worker, trx, fresh, pending)
  if ([...duplicates.values()].some((id) => parents.has(id))) throw new RetryAfter(originalPauseSeconds)
  const unsuccessful = decidedEnds(failed, canceled)
  const isPostponed = abandonFailure !== undefined && unsuccessful.length > 0
  if (isPostponed) await decideEnds(trx, unsuccessful, abandonFailure)
  else await abandonClaimed(trx, worker, unsuccessful)
  const reports = unwrittenReports(free, (id) => fresh.some(({ claim }) => claim.jobId === id) && !parents.has(id))
  if (failed.length + unknown.length + reports.length > 0) await useGenericPlan(trx)
  if (reports.length > 0) await progressUpdate(reports).execute(trx)
  const failures = await writeFailures(worker, trx, failed, pending, { isPostponed })
  await failUnknown(worker, trx, unknown)
  const known = ended.filter((claim) => !unknown.includes(claim))
  const claims = free.map(({ claim }) => claim)
  const awaiting = completions.filter(({ id }) => parents.has(id))
  const resolved = await writeAwaiting(trx, worker, awaiting, claims)
  const completedClaims = completed.map(({ claim }) => claim)
  const [, succeeded, duplicated, canceledJobs] = await pipeline(trx, (trx) => [
    useGenericPlan(trx),
    writeSucceeded(
      trx,
      worker,
      completions.filter(({ id }) => !parents.has(id)),
    ),
    writeDuplicates(trx, worker, completedClaims, duplicates),
    writeCanceled(trx, worker, isPostponed ? [] : canceled),
    worker.claims.complete(trx, [...completedClaims, ...canceled, ...known]),
    removeFromQuarantine(trx, claims),
    // Checks deferred constraints here, so that a violation fails this statement and not the COMMIT.
    sql`set constraints all immediate`.execute(trx),
  ])
  const failedJobs = failures.flatMap(({ ended }) => ended)
  const notified = [...succeeded, ...duplicated, ...canceledJobs, ...failedJobs]
  const followed = await followEnds(boss, trx, notified, { areClaimed: true })
  await registerFinishCheck(worker, trx, claims, pending)
  return {
    jobs: [...free.map(({ claim }) => claim.jobId), ...resolved.jobs, ...followed.jobs],
    enqueued: [...enqueued, ...requeued, ...resolved.enqueued, ...followed.enqueued],
    outcomes: {
      succeeded: succeeded.length + duplicated.length + awaiting.length,
      canceled: canceledJobs.length,
      failed: failedJobs.length,
      retried: failures.filter(({ outcome }) => outcome.kind === 'retry').length,
    },
    completed,
    failures,
    canceled: isPostponed ? [] : canceled,
    ended,
  }
}

/** Returns the reports that are not written yet. The statement that ends a job as succeeded also writes its report. */
const unwrittenReports = (
  attempts: readonly (PerformedAttempt | ThrownAttempt)[],
  hasSucceeded: (jobId: string) => boolean,
): ProgressReport[] => attempts.flatMap(({ claim, report }) => (report && !hasSucceeded(claim.jobId) ? [report] : []))

/** The jobs that end unsuccessfully. A failed attempt that is retried ends no job. */
const decidedEnds = (failed: readonly FailedAttempt[], canceled: readonly Claim[]): DecidedEnd[] => [
  ...failed.flatMap(({ claim, outcome }) =>
    outcome.kind === 'failed' ? [{ claim, status: 'failed' as const, error: outcome.error }] : [],
  ),
  ...canceled.map((claim) => ({ claim, status: 'canceled' as const })),
]

interface Groups {
  completed: PerformedAttempt[]
  failed: FailedAttempt[]
  canceled: Claim[]
  ended: Claim[]
}

/** @throws LostClaim when an attempt has the outcome `lost` */
function groupByOutcome(
  attempts: readonly (PerformedAttempt | ThrownAttempt)[],
  { pending, duplicates }: LockedJobs,
): Groups {
  const groups: Groups = { completed: [], failed: [], canceled: [], ended: [] }
  for (const attempt of attempts) {
    const { claim } = attempt
    const outcome = outcomeOf(attempt, pending.get(claim.jobId), duplicates.has(claim.jobId))
    switch (outcome.kind) {
      case 'completed':
        groups.completed.push(attempt as PerformedAttempt)
        break
      case 'retry':
      case 'failed':
        groups.failed.push({ ...(attempt as ThrownAttempt), outcome })
        break
      case 'canceled':
      case 'ended':
        groups[outcome.kind].push(claim)
        break
      case 'lost':
        throw new LostClaim(`The job ${claim.jobId} has not been performed`)
    }
  }
  return groups
}
