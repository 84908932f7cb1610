import { sql } from 'kysely'
import type { TSchema } from 'typebox'
import { planAndWaitAsUsual, planOnce, planOnceAndWaitBriefly, together } from '../src/db/database.ts'
import { enqueue } from '../src/jobs/enqueue.ts'
import { enqueueDeliveries } from '../src/jobs/webhook-delivery.ts'
import type { AnyTransaction, Operation } from '../src/operation.ts'
import { uuid7 } from '../src/uuid.ts'
import { assertPayload, findMismatch } from '../src/validation.ts'
import type { Claim } from './claim.ts'
import { lockAndClaimKeys } from './dedup.ts'
import { AttemptTimeout, asLocked, SchemaMismatch } from './failure.ts'
import type { SettlingJob } from './handlers.ts'
import { describeJob, type Lane } from './lane.ts'
import type { Outcomes } from './metrics.ts'
import { revive } from './revive.ts'
import {
  type Ending,
  forgetSuspects,
  type PendingJob,
  writeCanceled,
  writeDuplicates,
  writeSucceeded,
} from './status.ts'
import { runCharged } from './uncaught.ts'

/** A claim on its way to the end. */
export interface Performed {
  claim: Claim
  /** What `perform` returned. */
  result?: unknown
  /** Where `perform` said the client is sent. */
  resource?: string | undefined
}

/** What a transaction came to, to be told after its commit. */
export interface Settled {
  /** Operations that have work now. */
  hints: Iterable<string>
  outcomes: Outcomes
}

/**
 * Ends jobs in the transaction: their keys, the handler's writes, their status and their place in the queue commit
 * together or not at all. What is to be canceled drops out, and ends canceled. Throws when anything is not as it was
 * claimed.
 *
 * @param isBrief whether nobody is waited for who has one of the jobs locked, or is committing its key
 * @throws LostClaim, JobLocked when `isBrief`
 */
export async function settle(
  lane: Lane,
  trx: AnyTransaction,
  performed: readonly Performed[],
  isBrief: boolean,
): Promise<Settled> {
  const claims = performed.map(({ claim }) => claim)
  const ids = claims.map(({ jobId }) => jobId)
  // For the statements of the handler, and after it: when its time is over, none of them may go on.
  const patience = lane.operation.timeoutSeconds + 1
  const [, { pending, duplicates }] = await together(trx, (trx) => [
    isBrief ? planOnceAndWaitBriefly(trx) : planOnce(trx),
    lockAndClaimKeys(trx, lane.operation, ids, patience),
    planAndWaitAsUsual(trx),
  ]).catch(asLocked(isBrief))
  const revived = await revive(
    lane,
    trx,
    claims.filter(({ jobId }) => !pending.has(jobId)),
  )
  const isToBeCanceled = ({ jobId }: Claim) => pending.get(jobId)?.cancel_requested === true
  const isLive = (claim: Claim) => pending.has(claim.jobId) && !isToBeCanceled(claim)
  const live = claims.filter(isLive)
  const fresh = performed.filter(({ claim }) => isLive(claim) && !duplicates.has(claim.jobId))
  const { endings, hints } = await runHandler(lane, trx, fresh, pending)
  const [, succeeded, duplicated, canceled] = await together(trx, (trx) => [
    planOnce(trx),
    writeSucceeded(trx, lane.operation, endings),
    writeDuplicates(trx, lane.operation, live, duplicates),
    writeCanceled(trx, claims.filter(isToBeCanceled)),
    lane.claims.complete(trx, claims),
    forgetSuspects(trx, claims),
    // A deferred constraint would only speak at COMMIT, when nobody can tell any more whose it was. From here on it speaks at
    // once, also of what is written after this.
    sql`set constraints all immediate`.execute(trx),
  ])
  const deliveries = await enqueueDeliveries(lane.boss, trx, [...succeeded, ...duplicated, ...canceled])
  return {
    hints: [...hints, ...revived, ...deliveries],
    outcomes: { succeeded: succeeded.length + duplicated.length, canceled: canceled.length },
  }
}

async function runHandler(
  lane: Lane,
  trx: AnyTransaction,
  fresh: readonly Performed[],
  pending: ReadonlyMap<string, PendingJob>,
): Promise<{ endings: Ending[]; hints: Set<string> }> {
  // A row may come from SQL or from another release. What performs was looked at before.
  if (!lane.handler.perform)
    assertFits(
      lane.operation,
      'payload',
      fresh.map(({ claim }) => claim.payload),
    )
  const hints = new Set<string>()
  const resources = new Map<string, string>()
  const jobs = fresh.map((performed) => {
    const job = settlingJob(lane, performed, pending.get(performed.claim.jobId) as PendingJob, hints)
    return { ...job, setResource: (path: string) => void resources.set(job.id, path) }
  })
  const results = jobs.length > 0 && lane.handler.settle ? await callSettle(lane, trx, jobs) : undefined
  if (results && results.length !== jobs.length) {
    throw new Error(`settle of '${lane.operation.name}' must return a result for every job, in the same order`)
  }
  const endings = fresh.map(({ claim, result, resource }, index) => ({
    id: claim.jobId,
    attempt: claim.attempt,
    result: lane.operation.schemas.result ? (results ? results[index] : result) : undefined,
    resource: resources.get(claim.jobId) ?? resource,
  }))
  if (lane.operation.schemas.result)
    assertFits(
      lane.operation,
      'result',
      endings.map((ending) => ending.result),
    )
  return { endings, hints }
}

async function callSettle({ handler, log, operation }: Lane, trx: AnyTransaction, jobs: SettlingJob[]) {
  const { timeoutSeconds } = operation
  const failing = Promise.withResolvers<never>()
  const timer = setTimeout(() => failing.reject(new AttemptTimeout(timeoutSeconds)), timeoutSeconds * 1000)
  try {
    const settling = runCharged({ log, fail: failing.reject }, () => handler.settle?.(trx, jobs))
    return await Promise.race([settling, failing.promise])
  } finally {
    clearTimeout(timer)
  }
}

/** One that does not fit fails the whole batch, which is then split until it is alone. */
function assertFits({ name, schemas }: Operation, what: 'payload' | 'result', values: readonly unknown[]): void {
  for (const value of values) {
    const mismatch = findMismatch(schemas[what] as TSchema, value)
    if (mismatch) throw new SchemaMismatch(what, name, mismatch)
  }
}

function settlingJob(
  lane: Lane,
  { claim, result }: Performed,
  row: PendingJob,
  hints: Set<string>,
): Omit<SettlingJob, 'setResource'> {
  return {
    ...describeJob(lane, claim, row),
    result,
    async enqueue(trx, next, payload, { key, principal = row.principal, ...rest } = {}) {
      assertPayload(next, payload)
      const job = { ...rest, id: uuid7(), operation: next, payload, principal, idempotencyKey: key }
      await enqueue(lane.boss, trx, [job])
      hints.add(next.name)
      return job.id
    },
  }
}
