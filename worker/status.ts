import { type RawBuilder, sql } from 'kysely'
import type { JobErrorColumn } from '../src/db/tables.ts'
import { among } from '../src/jobs/job.ts'
import { pendingList } from '../src/jobs/state.ts'
import { type EndedJob, endpointsToTell } from '../src/jobs/webhook-delivery.ts'
import { type AnyTransaction, keepSeconds, type Operation } from '../src/operation.ts'
import { areHeld, type Claim } from './claim.ts'
import { LostClaim } from './failure.ts'

/** A pending job, as its record says. */
export interface PendingJob {
  id: string
  principal: string
  idempotency_key: string | null
  trace: string | null
  attempt: number
  max_attempts: number
  attempt_started_at: Date | null
  /** How long its record is kept yet, in seconds. */
  kept_seconds: number
  cancel_requested: boolean
}

/** Those of a {@link PendingJob}. */
export const pendingColumns = sql`
  job.id, job.principal, job.idempotency_key, job.trace, job.attempt, job.max_attempts, job.attempt_started_at,
  job.cancel_requested, extract(epoch from job.expires_at - now())::float8 as kept_seconds`

const byId = <Row extends { id: string }>(rows: readonly Row[]) => new Map(rows.map((row) => [row.id, row]))

const jobIds = (claims: readonly Claim[]) => claims.map(({ jobId }) => jobId)

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
    select ${pendingColumns} from accepted.job
    where ${among(ids)} and state in ${pendingList}
    order by id for update ${otherwise}`.execute(trx)
  return byId(rows)
}

/** Those of the jobs that are still pending, whoever has locked them. */
export async function findPending(trx: AnyTransaction, ids: readonly string[]): Promise<Set<string>> {
  const { rows } = await sql<{ id: string }>`
    select id from accepted.job where ${among(ids)} and state in ${pendingList}`.execute(trx)
  return new Set(rows.map(({ id }) => id))
}

/** One that is shown as running. */
export interface RunningJobRow extends PendingJob {
  /** Another job has, or had, its key. */
  is_key_taken: boolean
}

/**
 * Shows as running jobs that are locked; answers those that are still claimed in their attempt, are pending, and are not to
 * be canceled.
 */
export async function writeRunning(
  trx: AnyTransaction,
  operation: Operation,
  claims: readonly Claim[],
): Promise<Map<string, RunningJobRow>> {
  const ids = jobIds(claims)
  const attempts = Object.fromEntries(claims.map(({ jobId, attempt }) => [jobId, attempt]))
  const jobs = Object.fromEntries(claims.map(({ queued, jobId }) => [queued.id, jobId]))
  const { rows } = await sql<RunningJobRow>`
    update accepted.job set
      state = 'running', attempt = (${JSON.stringify(attempts)}::jsonb -> job.id::text)::integer,
      started_at = coalesce(started_at, statement_timestamp()), attempt_started_at = statement_timestamp(),
      progress_at = null, updated_at = statement_timestamp(), sequence = sequence + 1
    where ${among(ids)}
      and job.id = any(array(
        select (${JSON.stringify(jobs)}::jsonb ->> id::text)::uuid from pgboss.job
        where name = ${operation.name} and ${areHeld(claims)}
      ))
      and job.operation = ${operation.name} and job.state in ${pendingList} and not job.cancel_requested
    returning ${pendingColumns}, exists (
      select from accepted.processed_key processed
      where processed.operation = job.operation and processed.principal = job.principal
        and processed.key = job.idempotency_key and processed.job_id <> job.id
    ) as is_key_taken`.execute(trx)
  return byId(rows)
}

/** How a job that has succeeded ends. */
export interface Ending {
  id: string
  attempt: number
  result: unknown
  resource: string | undefined
}

/** @throws LostClaim when one is not pending any more */
export async function writeSucceeded(
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
    where job.id = ended.id and ${among(ids)}
      and job.operation = ${operation.name} and job.state in ${pendingList}
    returning job.id, ${endpointsToTell}`.execute(trx)
  if (rows.length !== endings.length) throw new LostClaim(`The status of ${ids} has moved on`)
  return rows
}

const toJson = (value: unknown): string | null => (value === undefined || value === null ? null : JSON.stringify(value))

/**
 * A duplicate ends like the job that had the effect, with its result and resource.
 *
 * @param duplicates by the job's id, that of the job that had the effect
 * @throws LostClaim when one is not pending any more
 */
export async function writeDuplicates(
  trx: AnyTransaction,
  operation: Operation,
  claims: readonly Claim[],
  duplicates: ReadonlyMap<string, string>,
): Promise<EndedJob[]> {
  if (duplicates.size === 0) return []
  const { rows } = await sql<{ id: string; result: unknown; resource: string | null }>`
    select id, result, resource from accepted.job where id = any(${[...duplicates.values()]}::uuid[])`.execute(trx)
  const firsts = byId(rows)
  const endings = claims.flatMap(({ jobId, attempt }) => {
    const first = duplicates.get(jobId)
    if (first === undefined) return []
    const { result, resource } = firsts.get(first) ?? {}
    return [{ id: jobId, attempt, result, resource: resource ?? undefined }]
  })
  return writeSucceeded(trx, operation, endings)
}

/** Ends jobs that are locked as canceled. The payload is kept, for a retry. */
export function writeCanceled(trx: AnyTransaction, claims: readonly Claim[]): Promise<EndedJob[]> {
  return writeUnsuccessful(trx, claims, sql`state = 'canceled'`)
}

/** Ends jobs that are locked as failed. The payload is kept, for a retry. */
export function writeFailed(trx: AnyTransaction, claims: readonly Claim[], error: JobErrorColumn): Promise<EndedJob[]> {
  return writeUnsuccessful(
    trx,
    claims,
    sql`
      state = 'failed', attempt = ended.attempt, error = ${JSON.stringify(error)},
      started_at = coalesce(started_at, now())`,
  )
}

async function writeUnsuccessful(
  trx: AnyTransaction,
  claims: readonly Claim[],
  change: RawBuilder<unknown>,
): Promise<EndedJob[]> {
  if (claims.length === 0) return []
  const ids = jobIds(claims)
  const { rows } = await sql<EndedJob>`
    update accepted.job set
      ${change}, payload = ended.payload,
      ended_at = statement_timestamp(), updated_at = statement_timestamp(), sequence = sequence + 1,
      expires_at = now() + make_interval(secs => ${keepSeconds})
    from unnest(
      ${ids}::uuid[],
      ${claims.map(({ attempt }) => attempt)}::integer[],
      ${claims.map(({ payload }) => JSON.stringify(payload ?? null))}::jsonb[]
    ) as ended (id, attempt, payload)
    where job.id = ended.id and ${among(ids)}
    returning job.id, ${endpointsToTell}`.execute(trx)
  return rows
}

/** Shows as queued jobs that are locked: their attempt was cut short, and does not count. */
export async function writeQueued(trx: AnyTransaction, ids: readonly string[]): Promise<void> {
  if (ids.length === 0) return
  await sql`
    update accepted.job set state = 'queued', sequence = sequence + 1, updated_at = statement_timestamp()
    where ${among(ids)} and state = 'running'`.execute(trx)
}

/**
 * Shows as queued, for their next attempt, jobs that are locked; this one has failed.
 *
 * @param isFree whether they are given another attempt in place of this one
 */
export async function writeRetried(trx: AnyTransaction, claims: readonly Claim[], isFree: boolean): Promise<void> {
  if (claims.length === 0) return
  const ids = jobIds(claims)
  await sql`
    update accepted.job set
      state = 'queued', attempt = failed.attempt, max_attempts = max_attempts + ${isFree ? 1 : 0},
      started_at = coalesce(started_at, now()), updated_at = statement_timestamp(), sequence = sequence + 1
    from unnest(${ids}::uuid[], ${claims.map(({ attempt }) => attempt)}::integer[]) as failed (id, attempt)
    where job.id = failed.id and ${among(ids)}`.execute(trx)
}

/** Records failed attempts of jobs that are locked. */
export async function writeAttempts(
  trx: AnyTransaction,
  claims: readonly Claim[],
  pending: ReadonlyMap<string, PendingJob>,
  error: JobErrorColumn,
): Promise<void> {
  if (claims.length === 0) return
  await sql`
    insert into accepted.attempt (job_id, attempt, error, started_at)
    select job_id, attempt, ${JSON.stringify(error)}, started_at
    from unnest(
      ${jobIds(claims)}::uuid[],
      ${claims.map(({ attempt }) => attempt)}::integer[],
      ${claims.map(({ jobId }) => pending.get(jobId)?.attempt_started_at ?? null)}::timestamptz[]
    ) as ended (job_id, attempt, started_at)
    on conflict on constraint attempt_pkey do nothing`.execute(trx)
}

/** Suspects that have ended, whichever way: they were not the ones that kill. */
export async function forgetSuspects(trx: AnyTransaction, claims: readonly Claim[]): Promise<void> {
  const ids = jobIds(claims.filter(({ isSuspect }) => isSuspect))
  if (ids.length > 0) await sql`delete from accepted.suspect where job_id = any(${ids}::uuid[])`.execute(trx)
}
