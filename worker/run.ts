import { commit, planOnce, planOnceAndWaitBriefly, together } from '../src/db/database.ts'
import type { AnyTransaction } from '../src/operation.ts'
import { findMismatch } from '../src/validation.ts'
import type { Cancellations } from './cancellations.ts'
import type { Claim } from './claim.ts'
import { findProcessed } from './dedup.ts'
import { AttemptTimeout, asLocked, JobCanceled, SchemaMismatch } from './failure.ts'
import type { PerformHandler, PerformingJob } from './handlers.ts'
import { describeJob, type Lane } from './lane.ts'
import { patiently } from './patiently.ts'
import type { Progress } from './progress.ts'
import type { RunTimes } from './run-times.ts'
import type { Performed } from './settle.ts'
import { chargeFailure } from './settle-failure.ts'
import { type Settling, settleOrSplit } from './settling.ts'
import { lockPending, type PendingJob, writeRunning } from './status.ts'
import { runCharged } from './uncaught.ts'

export interface RunContext {
  progress: Progress
  cancellations: Cancellations
  runTimes: RunTimes
  /** Aborts when the worker stops; nothing is begun or ended any more then. */
  stopping: AbortSignal
}

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
    await chargeFailure(lane, claim, error, context)
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
