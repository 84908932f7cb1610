import { type RawBuilder, sql } from 'kysely'
import type { TSchema } from 'typebox'
import { v7 as uuid7 } from 'uuid'
import type { JobErrorColumn } from '../src/db/tables.ts'
import { enqueue } from '../src/jobs/enqueue.ts'
import { pendingList } from '../src/jobs/state.ts'
import { type EndedJob, endpointsToTell, enqueueDeliveries } from '../src/jobs/webhook-delivery.ts'
import { type AnyTransaction, keepSeconds, type Operation } from '../src/operation.ts'
import { assertPayload, findMismatch } from '../src/validation.ts'
import type { Claim } from './claim.ts'
import { claimProcessedKeys } from './dedup.ts'
import {
  AttemptFailed,
  AttemptTimeout,
  describeError,
  JobFailed,
  LostClaim,
  RetryAfter,
  SchemaMismatch,
} from './failure.ts'
import type { SettlingJob } from './handlers.ts'
import { describeJob, type Lane, type PendingJob } from './lane.ts'
import type { Outcomes } from './metrics.ts'
import { revive } from './revive.ts'
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

interface Ending {
  id: string
  attempt: number
  result: unknown
  resource: string | undefined
}

/**
 * Ends jobs in the transaction: their keys, the handler's writes, their status and their place in the queue commit
 * together or not at all. What is to be canceled drops out, and ends canceled. Throws when anything is not as it was
 * claimed.
 *
 * @throws LostClaim
 */
export async function settle(lane: Lane, trx: AnyTransaction, performed: readonly Performed[]): Promise<Settled> {
  const pending = await lockPending(
    trx,
    performed.map(({ claim }) => claim.jobId),
  )
  const revived = await revive(
    lane,
    trx,
    performed.flatMap(({ claim }) => (pending.has(claim.jobId) ? [] : [claim])),
  )
  const isToBeCanceled = ({ claim }: Performed) => pending.get(claim.jobId)?.cancel_requested === true
  const live = performed.filter((one) => pending.has(one.claim.jobId) && !isToBeCanceled(one))
  const duplicates = await claimProcessedKeys(
    trx,
    lane.operation,
    live.map(({ claim }) => pending.get(claim.jobId) as PendingJob),
  )
  const fresh = live.filter(({ claim }) => !duplicates.has(claim.jobId))
  const { endings, hints } = await runHandler(lane, trx, fresh, pending)
  const succeeded = [
    ...(await writeSucceeded(trx, lane.operation, endings)),
    ...(await writeDuplicates(trx, lane.operation, live, duplicates)),
  ]
  const canceled = await writeCanceled(
    trx,
    performed.filter(isToBeCanceled).map(({ claim }) => claim),
  )
  await lane.claims.complete(
    trx,
    performed.map(({ claim }) => claim),
  )
  for (const name of [...revived, ...(await enqueueDeliveries(lane.boss, trx, [...succeeded, ...canceled]))])
    hints.add(name)
  // A deferred constraint would only speak at COMMIT, when nobody can tell any more whose it was.
  await sql`set constraints all immediate`.execute(trx)
  return { hints, outcomes: { succeeded: succeeded.length, canceled: canceled.length } }
}

/**
 * Locks those of the jobs that are still pending, in the order of their ids.
 *
 * @param otherwise `skip locked` leaves out what somebody else has locked
 */
export async function lockPending(
  trx: AnyTransaction,
  ids: readonly string[],
  otherwise: RawBuilder<unknown> = sql``,
): Promise<Map<string, PendingJob>> {
  const { rows } = await sql<PendingJob>`
    select
      id, principal, idempotency_key, attempt, max_attempts, attempt_started_at, cancel_requested,
      extract(epoch from expires_at - now())::float8 as kept_seconds
    from accepted.job
    where id = any(${ids}::uuid[]) and id between ${lowest(ids)} and ${highest(ids)} and state in ${pendingList}
    order by id for update ${otherwise}`.execute(trx)
  return new Map(rows.map((row) => [row.id, row]))
}

/** Those of the jobs that are still pending, whoever has locked them. */
export async function findPending(trx: AnyTransaction, ids: readonly string[]): Promise<Set<string>> {
  const { rows } = await sql<{ id: string }>`
    select id from accepted.job
    where id = any(${ids}::uuid[]) and id between ${lowest(ids)} and ${highest(ids)} and state in ${pendingList}`.execute(
    trx,
  )
  return new Set(rows.map(({ id }) => id))
}

// Beside `= any`, bounds let a generic plan skip the partitions of other days.
export const lowest = (ids: readonly string[]) => ids.toSorted()[0]
export const highest = (ids: readonly string[]) => ids.toSorted().at(-1)

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
  const results = jobs.length > 0 ? await callSettle(lane, trx, jobs) : undefined
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

async function writeSucceeded(
  trx: AnyTransaction,
  operation: Operation,
  endings: readonly Ending[],
): Promise<EndedJob[]> {
  if (endings.length === 0) return []
  const ids = endings.map(({ id }) => id)
  const { rows } = await sql<EndedJob>`
    update accepted.job set
      state = 'succeeded', percent = 100, attempt = ended.attempt, result = ended.result,
      resource = coalesce(ended.resource, job.resource), started_at = coalesce(job.started_at, now()),
      ended_at = statement_timestamp(), updated_at = statement_timestamp(), sequence = sequence + 1,
      expires_at = now() + make_interval(secs => ${keepSeconds})
    from unnest(
      ${ids}::uuid[],
      ${endings.map(({ attempt }) => attempt)}::integer[],
      ${endings.map(({ result }) => toJson(result))}::jsonb[],
      ${endings.map(({ resource }) => resource ?? null)}::text[]
    ) as ended (id, attempt, result, resource)
    where job.id = ended.id and job.id between ${lowest(ids)} and ${highest(ids)}
      and job.operation = ${operation.name} and job.state in ${pendingList}
    returning job.id, ${endpointsToTell}`.execute(trx)
  if (rows.length !== endings.length) throw new LostClaim(`The status of ${ids} has moved on`)
  return rows
}

const toJson = (value: unknown): string | null => (value === undefined || value === null ? null : JSON.stringify(value))

/** A duplicate ends like the job that had the effect, with its result and resource. */
async function writeDuplicates(
  trx: AnyTransaction,
  operation: Operation,
  live: readonly Performed[],
  duplicates: ReadonlyMap<string, string>,
): Promise<EndedJob[]> {
  if (duplicates.size === 0) return []
  const { rows: firsts } = await sql<{ id: string; result: unknown; resource: string | null }>`
    select id, result, resource from accepted.job where id = any(${[...duplicates.values()]}::uuid[])`.execute(trx)
  const byId = new Map(firsts.map((first) => [first.id, first]))
  const endings = live.flatMap(({ claim }) => {
    const first = duplicates.get(claim.jobId)
    if (first === undefined) return []
    const { result, resource } = byId.get(first) ?? {}
    return [{ id: claim.jobId, attempt: claim.attempt, result, resource: resource ?? undefined }]
  })
  return writeSucceeded(trx, operation, endings)
}

/** The payload is kept, for a retry. */
export async function writeCanceled(trx: AnyTransaction, claims: readonly Claim[]): Promise<EndedJob[]> {
  if (claims.length === 0) return []
  const ids = claims.map(({ jobId }) => jobId)
  const { rows } = await sql<EndedJob>`
    update accepted.job set
      state = 'canceled', payload = canceled.payload, ended_at = statement_timestamp(), updated_at = statement_timestamp(), sequence = sequence + 1,
      expires_at = now() + make_interval(secs => ${keepSeconds})
    from unnest(
      ${ids}::uuid[],
      ${claims.map(({ payload }) => JSON.stringify(payload ?? null))}::jsonb[]
    ) as canceled (id, payload)
    where job.id = canceled.id and job.id between ${lowest(ids)} and ${highest(ids)}
    returning job.id, ${endpointsToTell}`.execute(trx)
  return rows
}

/**
 * Ends a failed attempt in the transaction: a row for the attempt, and the job goes back to the queue, has failed, or is
 * canceled when that was asked for.
 *
 * @throws LostClaim
 */
export async function settleFailure(lane: Lane, trx: AnyTransaction, claim: Claim, cause: unknown): Promise<Settled> {
  const row = (await lockPending(trx, [claim.jobId])).get(claim.jobId)
  if (!row || row.cancel_requested) {
    const canceled = row ? await writeCanceled(trx, [claim]) : []
    await lane.claims.complete(trx, [claim])
    return { hints: await enqueueDeliveries(lane.boss, trx, canceled), outcomes: { canceled: canceled.length } }
  }
  if (cause instanceof RetryAfter && cause.seconds < row.kept_seconds) {
    await postpone(lane, trx, claim, cause.seconds)
    return { hints: [], outcomes: { retried: 1 } }
  }
  const error = describeError(cause)
  const final = cause instanceof JobFailed || claim.attempt >= row.max_attempts
  await writeAttempt(trx, claim, row, error)
  const ended = final ? await writeFailed(trx, claim, error) : await writeQueued(trx, claim)
  const retryAfter = cause instanceof AttemptFailed ? cause.retryAfterSeconds : undefined
  await lane.claims.fail(trx, claim, error, final ? 'never' : retryAfter)
  const hints = await enqueueDeliveries(lane.boss, trx, ended)
  return { hints, outcomes: final ? { failed: 1 } : { retried: 1 } }
}

export async function writeAttempt(
  trx: AnyTransaction,
  claim: Claim,
  { attempt_started_at }: PendingJob,
  error: JobErrorColumn,
): Promise<void> {
  await sql`
    insert into accepted.attempt (job_id, attempt, error, started_at)
    values (${claim.jobId}, ${claim.attempt}, ${JSON.stringify(error)}, ${attempt_started_at})
    on conflict on constraint attempt_pkey do nothing`.execute(trx)
}

async function postpone(lane: Lane, trx: AnyTransaction, claim: Claim, seconds: number): Promise<void> {
  await sql`
    update accepted.job set state = 'queued', sequence = sequence + 1, updated_at = statement_timestamp()
    where id = ${claim.jobId}`.execute(trx)
  // It has run alone, and did no harm.
  await lane.claims.release(trx, [{ ...claim, isSuspect: false }], seconds)
}

export async function writeFailed(trx: AnyTransaction, claim: Claim, error: JobErrorColumn): Promise<EndedJob[]> {
  const { rows } = await sql<EndedJob>`
    update accepted.job set
      state = 'failed', attempt = ${claim.attempt}, error = ${JSON.stringify(error)},
      payload = ${JSON.stringify(claim.payload ?? null)}, started_at = coalesce(started_at, now()),
      ended_at = statement_timestamp(), updated_at = statement_timestamp(), sequence = sequence + 1,
      expires_at = now() + make_interval(secs => ${keepSeconds})
    where id = ${claim.jobId}
    returning job.id, ${endpointsToTell}`.execute(trx)
  return rows
}

async function writeQueued(trx: AnyTransaction, claim: Claim): Promise<[]> {
  await sql`
    update accepted.job set
      state = 'queued', attempt = ${claim.attempt}, started_at = coalesce(started_at, now()),
      updated_at = statement_timestamp(), sequence = sequence + 1
    where id = ${claim.jobId}`.execute(trx)
  return []
}
