import { type RawBuilder, sql } from 'kysely'
import type { JobErrorColumn } from '../../src/db/tables.ts'
import { idIn } from '../../src/jobs/job.ts'
import { endedColumns } from '../../src/jobs/relatives.ts'
import { pendingStatusesSql } from '../../src/jobs/status.ts'
import type { EndedJob } from '../../src/jobs/webhook-delivery.ts'
import type { AnyTransaction, Operation } from '../../src/operation.ts'
import type { Claim } from '../../src/queue/claim.ts'
import { payloadInQueue } from '../../src/queue/claim.ts'
import { LostClaim } from '../../src/queue/lost-claim.ts'
import { byId, type PendingJob } from './pending-jobs.ts'

/** What the statements need to know of a worker. */
export interface StatusWriter {
  operation: Operation
  /** The id of the worker in `accepted.worker`; null when the jobs belong to another worker, which is dead. */
  workerId: string | null
}

const jobIds = (claims: readonly Claim[]) => claims.map(({ jobId }) => jobId)

/** What is written for a job that succeeds. */
export interface JobCompletion {
  id: string
  attempt: number
  result: unknown
  resource: string | undefined
  /** A progress message that is not written yet. */
  message?: string | undefined
}

/** @throws LostClaim when one of the jobs is no longer pending */
export async function writeSucceeded(
  trx: AnyTransaction,
  { operation, workerId }: StatusWriter,
  completions: readonly JobCompletion[],
): Promise<EndedJob[]> {
  if (completions.length === 0) return []
  const ids = completions.map(({ id }) => id)
  const messages = completions.map(({ message }) => message ?? null)
  // Few jobs report a message just before they end. The statement for all others does not mention messages.
  const hasMessage = messages.some((message) => message !== null)
  const { rows } = await sql<EndedJob>`
    update accepted.job set
      ${hasMessage ? sql`message = coalesce(ended.message, job.message),` : sql``}
      status = 'succeeded', percent = 100, attempt = ended.attempt, result = ended.result, payload = null,
      resource = coalesce(ended.resource, job.resource), started_at = coalesce(job.started_at, now()),
      worker_id = ${workerId}, ended_at = statement_timestamp(), updated_at = statement_timestamp(),
      sequence = sequence + 1, expires_at = now() + make_interval(secs => ${operation.keepSeconds})
    from unnest(
      ${ids}::uuid[],
      ${completions.map(({ attempt }) => attempt)}::integer[],
      ${completions.map(({ result }) => toJson(result))}::jsonb[],
      ${completions.map(({ resource }) => resource ?? null)}::text[]${hasMessage ? sql`, ${messages}::text[]` : sql``}
    ) as ended (id, attempt, result, resource${hasMessage ? sql`, message` : sql``})
    where job.id = ended.id and ${idIn(ids)}
      and job.operation = ${operation.name} and job.status in ${pendingStatusesSql}
    returning job.id, ${endedColumns}`.execute(trx)
  if (rows.length !== completions.length) throw new LostClaim(`Another transaction has ended one of ${ids}`)
  return rows
}

export const toJson = (value: unknown): string | null =>
  value === undefined || value === null ? null : JSON.stringify(value)

/**
 * Ends duplicates as succeeded, with the result and resource of the job that had the effect.
 *
 * @param duplicates maps each duplicate's id to the id of the job that had the effect
 * @throws LostClaim when one of the jobs is no longer pending
 */
export async function writeDuplicates(
  trx: AnyTransaction,
  worker: StatusWriter,
  claims: readonly Claim[],
  duplicates: ReadonlyMap<string, string>,
): Promise<EndedJob[]> {
  if (duplicates.size === 0) return []
  const { rows } = await sql<{ id: string; result: unknown; resource: string | null }>`
    select id, result, resource from accepted.job where ${idIn([...duplicates.values()])}`.execute(trx)
  const originals = byId(rows)
  const completions = claims.flatMap(({ jobId, attempt }) => {
    const original = duplicates.get(jobId)
    if (original === undefined) return []
    const { result, resource } = originals.get(original) ?? {}
    return [{ id: jobId, attempt, result, resource: resource ?? undefined }]
  })
  return writeSucceeded(trx, worker, completions)
}

/** Ends locked jobs as canceled. Keeps the payload for a retry, if the queue has it. */
export function writeCanceled(
  trx: AnyTransaction,
  worker: StatusWriter,
  claims: readonly Claim[],
): Promise<EndedJob[]> {
  return writeUnsuccessful(trx, worker, claims, sql`status = 'canceled'`)
}

/** Ends locked jobs as failed. Keeps the payload for a retry, if the queue has it. */
export function writeFailed(
  trx: AnyTransaction,
  worker: StatusWriter,
  claims: readonly Claim[],
  error: JobErrorColumn,
): Promise<EndedJob[]> {
  const change = sql`
    status = 'failed', attempt = ended.attempt, error = ${JSON.stringify(error)},
    started_at = coalesce(started_at, now())`
  return writeUnsuccessful(trx, worker, claims, change)
}

async function writeUnsuccessful(
  trx: AnyTransaction,
  { operation, workerId }: StatusWriter,
  claims: readonly Claim[],
  change: RawBuilder<unknown>,
): Promise<EndedJob[]> {
  if (claims.length === 0) return []
  const ids = jobIds(claims)
  const { rows } = await sql<EndedJob>`
    update accepted.job set
      ${change}, payload = coalesce(${payloadInQueue(sql`${operation.name}::text`, sql`ended.queue_id`)}, job.payload),
      worker_id = coalesce(${workerId}, worker_id),
      ended_at = statement_timestamp(), updated_at = statement_timestamp(), sequence = sequence + 1,
      expires_at = now() + make_interval(secs => ${operation.keepSeconds})
    from unnest(
      ${ids}::uuid[],
      ${claims.map(({ attempt }) => attempt)}::integer[],
      ${claims.map(({ queued }) => queued.id)}::uuid[]
    ) as ended (id, attempt, queue_id)
    where job.id = ended.id and ${idIn(ids)}
    returning job.id, ${endedColumns}`.execute(trx)
  return rows
}

/** Sets locked jobs from running to queued, because their attempt was cut short. The attempt does not count. */
export async function writeQueued(trx: AnyTransaction, ids: readonly string[]): Promise<void> {
  if (ids.length === 0) return
  await sql`
    update accepted.job set status = 'queued', sequence = sequence + 1, updated_at = statement_timestamp()
    where ${idIn(ids)} and status = 'running'`.execute(trx)
}

/**
 * Sets locked jobs to queued after a failed attempt.
 *
 * @param extraAttempts 1 allows one more attempt, so that the failed attempt does not count
 */
export async function writeRetried(
  trx: AnyTransaction,
  { workerId }: StatusWriter,
  claims: readonly Claim[],
  { extraAttempts }: { extraAttempts: 0 | 1 },
): Promise<void> {
  if (claims.length === 0) return
  const ids = jobIds(claims)
  await sql`
    update accepted.job set
      status = 'queued', attempt = failed.attempt, max_attempts = max_attempts + ${extraAttempts},
      worker_id = coalesce(${workerId}, worker_id), started_at = coalesce(started_at, now()), updated_at = statement_timestamp(), sequence = sequence + 1
    from unnest(${ids}::uuid[], ${claims.map(({ attempt }) => attempt)}::integer[]) as failed (id, attempt)
    where job.id = failed.id and ${idIn(ids)}`.execute(trx)
}

/** Records failed attempts of locked jobs. */
export async function writeAttempts(
  trx: AnyTransaction,
  { workerId }: StatusWriter,
  claims: readonly Claim[],
  pending: ReadonlyMap<string, PendingJob>,
  error: JobErrorColumn,
): Promise<void> {
  if (claims.length === 0) return
  await sql`
    insert into accepted.attempt (job_id, attempt, error, worker_id, started_at)
    select job_id, attempt, ${JSON.stringify(error)}, worker_id, started_at
    from unnest(
      ${jobIds(claims)}::uuid[],
      ${claims.map(({ attempt }) => attempt)}::integer[],
      ${claims.map(({ jobId }) => workerId ?? pending.get(jobId)?.worker_id ?? null)}::uuid[],
      ${claims.map(({ jobId }) => pending.get(jobId)?.attempt_started_at ?? null)}::timestamptz[]
    ) as ended (job_id, attempt, worker_id, started_at)
    on conflict on constraint attempt_pkey do nothing`.execute(trx)
}

/** Removes jobs from quarantine. Their attempts have ended, so the jobs did not crash the worker. */
export async function removeFromQuarantine(trx: AnyTransaction, claims: readonly Claim[]): Promise<void> {
  const ids = jobIds(claims.filter(({ isQuarantined }) => isQuarantined))
  if (ids.length > 0) await sql`delete from accepted.quarantine where job_id = any(${ids}::uuid[])`.execute(trx)
}
