import { setTimeout as delay } from 'node:timers/promises'
import { createBatcher } from '../src/batcher.ts'
import { commit, planOnce, planOnceAndWaitBriefly, together } from '../src/db/database.ts'
import { errorCode, isContention, isLostConnection, isOutage, sqlstate } from '../src/db/sqlstate.ts'
import type { AnyTransaction } from '../src/operation.ts'
import { findMismatch } from '../src/validation.ts'
import type { Cancellations } from './cancellations.ts'
import type { Claim } from './claim.ts'
import { findProcessed } from './dedup.ts'
import { AttemptTimeout, asLocked, JobCanceled, JobLocked, LostClaim, RetryAfter, SchemaMismatch } from './failure.ts'
import type { PerformHandler, PerformingJob } from './handlers.ts'
import { describeJob, type Lane } from './lane.ts'
import type { Progress } from './progress.ts'
import type { RunTimes } from './run-times.ts'
import { type Performed, type Settled, settle } from './settle.ts'
import { settleFailure } from './settle-failure.ts'
import { lockPending, type PendingJob, writeRunning } from './status.ts'
import { runCharged } from './uncaught.ts'

export interface RunContext {
  progress: Progress
  cancellations: Cancellations
  runTimes: RunTimes
  /** Aborts when the worker stops; nothing is begun or ended any more then. */
  stopping: AbortSignal
}

/** Jobs that have been performed and are settled in one transaction, at most, and such transactions at once. */
const settledTogether = 100
const settlesAtOnce = 2

/** The life of a batch with database effects only: settled in one transaction. */
export async function runBatch(lane: Lane, claims: readonly Claim[], context: RunContext): Promise<void> {
  const begunAt = performance.now()
  await settleOrSplit(
    lane,
    claims.map((claim) => ({ claim })),
    context,
  )
  lane.metrics.observeRun(lane.operation.name, (performance.now() - begunAt) / 1000, claims.length)
}

/** Settles jobs of one operation, each as soon as it has been performed, those that end at the same time together. */
export interface Settling {
  /** Resolves when it has been settled or has failed: whether it was settled, together with all of its batch. */
  settle(performed: Performed): Promise<boolean>
}

/** Makes the settling of a lane. */
export function createSettling(lane: Lane, context: RunContext): Settling {
  const batcher = createBatcher<{ performed: Performed; end(isSettled: boolean): void }>({
    batchSize: settledTogether,
    batchesAtOnce: settlesAtOnce,
    async run(batch) {
      const ends = new Map(batch.map(({ performed, end }) => [performed, end]))
      await settleOrSplit(lane, [...ends.keys()], context, (one, isSettled) => ends.get(one)?.(isSettled))
    },
  })
  return {
    settle: (performed) => new Promise((end) => batcher.push({ performed, end })),
  }
}

/**
 * The life of jobs that perform: begun together, then each performed by itself.
 *
 * @throws JobLocked when somebody has one of several locked: none has begun
 */
export async function runEach(
  lane: Lane,
  claims: readonly Claim[],
  { settling, ...context }: RunContext & { settling: Settling },
  onEnd: (claim: Claim) => void,
): Promise<void> {
  const begun = await patiently(lane, context, () => begin(lane, claims, claims.length > 1))
  lane.hints.notify('status', begun.running.keys())
  await Promise.all(
    claims.map(async (claim) => {
      try {
        await runOne(lane, claim, begun, { settling, ...context })
      } finally {
        onEnd(claim)
      }
    }),
  )
}

async function runOne(
  lane: Lane,
  claim: Claim,
  begun: Begun,
  { settling, ...context }: RunContext & { settling: Settling },
): Promise<void> {
  const row = begun.running.get(claim.jobId)
  // To be canceled, or canceled, or without a record, or its effect is there already: settle ends it without the handler.
  if (!row || begun.duplicates.has(claim.jobId)) return void (await settling.settle({ claim }))
  const begunAt = performance.now()
  let performed: Performed
  try {
    performed = await perform(lane, claim, row, context)
  } catch (error) {
    await fail(lane, claim, error, context)
    return lane.metrics.observeRun(lane.operation.name, (performance.now() - begunAt) / 1000, 1)
  }
  const isSettled = await settling.settle(performed)
  const seconds = (performance.now() - begunAt) / 1000
  lane.metrics.observeRun(lane.operation.name, seconds, 1)
  if (isSettled) context.runTimes.record(lane.operation.name, seconds)
}

interface Begun {
  running: ReadonlyMap<string, PendingJob>
  duplicates: ReadonlyMap<string, string>
}

/** Shows jobs as running, and finds those whose effect is there already. */
async function begin({ operation, database }: Lane, claims: readonly Claim[], isBrief: boolean): Promise<Begun> {
  const { kysely } = database
  const ids = claims.map(({ jobId }) => jobId)
  const show = async (kyselyTrx: unknown) => {
    // In a statement before: one that waits for a lock looks at the queue as it was before the wait.
    const [, , shown] = await together(kyselyTrx as AnyTransaction, (trx) => [
      isBrief ? planOnceAndWaitBriefly(trx) : planOnce(trx),
      lockPending(trx, ids),
      writeRunning(trx, operation, claims),
      commit(trx),
    ])
    return shown
  }
  const running = await kysely.transaction().execute(show).catch(asLocked(isBrief))
  const suspected = [...running.values()].filter(({ is_key_taken }) => is_key_taken)
  return { running, duplicates: await findProcessed(kysely, operation, suspected) }
}

async function perform(lane: Lane, claim: Claim, row: PendingJob, context: RunContext): Promise<Performed> {
  const { operation } = lane
  const handler = lane.handler as PerformHandler<typeof operation>
  const mismatch = findMismatch(operation.schemas.payload, claim.payload)
  if (mismatch) throw new SchemaMismatch('payload', operation.name, mismatch)
  const ending = new AbortController()
  const stop = () => ending.abort(context.stopping.reason)
  // Taken off again at the end: the worker outlives millions of jobs.
  context.stopping.addEventListener('abort', stop, { once: true })
  if (context.stopping.aborted) stop()
  const unwatch = context.cancellations.watch(row.id, () => ending.abort(new JobCanceled()))
  const timer = setTimeout(
    () => ending.abort(new AttemptTimeout(operation.timeoutSeconds)),
    operation.timeoutSeconds * 1000,
  )
  let resource: string | undefined
  const job: PerformingJob = {
    ...describeJob(lane, claim, row),
    signal: ending.signal,
    progress: (percent, message) => context.progress.report(row, percent, message),
    setResource: (path) => {
      resource = path
    },
  }
  try {
    const fail = (error: unknown) => ending.abort(error)
    const performing = runCharged({ log: job.log, fail }, () => handler.perform(job))
    // What is isolated ends, or is killed; only then its slot is free, and no retry overlaps it.
    const result = await (lane.handler.isolate ? performing : Promise.race([performing, rejectOnAbort(job.signal)]))
    // A handler that ends because its time is over has not done its work.
    job.signal.throwIfAborted()
    return { claim, result, resource }
  } finally {
    clearTimeout(timer)
    unwatch()
    context.stopping.removeEventListener('abort', stop)
    context.progress.forget(row.id)
  }
}

const rejectOnAbort = (signal: AbortSignal): Promise<never> =>
  new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason)
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })

/**
 * Settles a batch in one transaction. When that fails, each half settles in a transaction of its own, and so on, so that
 * only the job that cannot be settled is charged. What somebody else has locked comes last: the others do not wait for it.
 *
 * @param onEnd told of each that is settled or has failed: whether it was settled, and all of its batch with it
 */
async function settleOrSplit(
  lane: Lane,
  performed: readonly Performed[],
  context: RunContext,
  onEnd: (performed: Performed, isSettled: boolean) => void = () => {},
): Promise<void> {
  const locked: Performed[] = []
  const settleSome = async (some: readonly Performed[], isBrief: boolean): Promise<void> => {
    try {
      const { hints, outcomes } = await patiently(lane, context, settleOnce(lane, some, isBrief))
      lane.metrics.countOutcomes(lane.operation.name, outcomes)
      lane.hints.notify('work', hints)
      lane.hints.notify(
        'status',
        some.map(({ claim }) => claim.jobId),
      )
      for (const one of some) onEnd(one, some.length === performed.length)
    } catch (error) {
      const [first, ...more] = some as [Performed, ...Performed[]]
      // The worker hands back what it holds when it has stopped.
      if (context.stopping.aborted) {
        for (const one of some) onEnd(one, false)
      } else if (more.length > 0) {
        lane.metrics.countRetry(lane.operation.name, 'bisected')
        const half = Math.ceil(some.length / 2)
        await settleSome(some.slice(0, half), isBrief)
        await settleSome(some.slice(half), isBrief)
      } else if (error instanceof JobLocked) {
        locked.push(first)
      } else {
        await fail(lane, first.claim, error, context)
        onEnd(first, false)
      }
    }
  }
  await settleSome(performed, performed.length > 1)
  for (const one of locked) await settleSome([one], false)
}

/** Settles in a transaction. One whose COMMIT was lost on the way may have happened: the next try finds that out. */
function settleOnce(lane: Lane, performed: readonly Performed[], isBrief: boolean): () => Promise<Settled> {
  let settled: Settled | undefined
  return async () => {
    try {
      return await lane.database.kysely.transaction().execute(async (trx) => {
        settled = await settle(lane, trx, performed, isBrief)
        return settled
      })
    } catch (error) {
      const claims = performed.map(({ claim }) => claim)
      if (settled && error instanceof LostClaim && (await lane.claims.areCompleted(claims))) return settled
      throw error
    }
  }
}

/** Charges a failed attempt to its job; what is no fault of the job is not charged. */
async function fail(lane: Lane, claim: Claim, error: unknown, context: RunContext): Promise<void> {
  // The worker hands back what it holds when it has stopped.
  if (context.stopping.aborted) return
  const log = lane.log.child({ job: claim.jobId, attempt: claim.attempt })
  const isLost = (reason: unknown) => reason instanceof LostClaim
  if (isLost(error)) {
    lane.metrics.countOutcomes(lane.operation.name, { lost: 1 })
    return log.warn('The claim was lost; what it did was rolled back')
  }
  // Postgres was away from the handler's own statements, too.
  const cause = isOutage(error) ? new RetryAfter(outagePause) : error
  if (error instanceof JobCanceled) log.info('Canceled while it was running')
  else log.warn({ err: error }, 'The attempt failed')
  let recorded: Settled | undefined
  const recordOnce = async (reason: unknown) => {
    try {
      return await lane.database.kysely.transaction().execute(async (trx) => {
        recorded = await settleFailure(lane, trx, claim, reason)
        return recorded
      })
    } catch (failure) {
      // It was ours when it was recorded: the COMMIT was lost on the way, and has happened.
      if (recorded && isLost(failure)) return recorded
      if (!isLostConnection(failure)) recorded = undefined
      throw failure
    }
  }
  // Nothing of the handler's runs in it: what is locked now will not be for ever.
  const record = (reason: unknown) => patiently(lane, context, () => recordOnce(reason), Number.POSITIVE_INFINITY)
  try {
    const { hints, outcomes } = await record(cause).catch((failure) => {
      if (isLost(failure) || context.stopping.aborted) throw failure
      log.error({ err: failure }, 'The failure could not be recorded as it is')
      return record(new Error('The attempt failed, and its error could not be recorded'))
    })
    lane.metrics.countOutcomes(lane.operation.name, outcomes)
    lane.hints.notify('work', hints)
    lane.hints.notify('status', [claim.jobId])
  } catch (failure) {
    if (isLost(failure)) {
      lane.metrics.countOutcomes(lane.operation.name, { lost: 1 })
      return log.warn('The claim was lost before its failure was recorded')
    }
    log.error({ err: failure }, 'The failure could not be recorded; the job runs again when its heartbeat is overdue')
  }
}

/** Before a job runs again that Postgres left in the lurch, in seconds. */
const outagePause = 5
const mostContentions = 10
const longestPause = 1_000

/**
 * Runs what may run again after a rollback: until Postgres is back, and some times when it lost a race.
 */
async function patiently<Result>(
  { operation, metrics }: Lane,
  { stopping }: RunContext,
  work: () => Promise<Result>,
  contentions = mostContentions,
): Promise<Result> {
  for (let round = 0, outages = 0; ; round++) {
    try {
      return await work()
    } catch (error) {
      // A disk may be full for this job alone, which is then to make room for others.
      const isFull = errorCode(error) === sqlstate.diskFull
      const isAway = isOutage(error) && !isFull
      const again = isAway || ((isContention(error) || isFull) && round - outages < contentions)
      if (!again || stopping.aborted) throw error
      if (isAway) outages += 1
      metrics.countRetry(operation.name, isContention(error) ? 'contention' : 'outage')
      await delay(Math.random() * Math.min(20 * 2 ** round, longestPause), undefined, { signal: stopping }).catch(
        () => {},
      )
    }
  }
}
