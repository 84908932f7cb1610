import { type QueryExecutorProvider, sql } from 'kysely'
import { among } from '../src/jobs/job.ts'
import { pendingList } from '../src/jobs/state.ts'
import type { AnyTransaction, Operation } from '../src/operation.ts'
import { type PendingJob, pendingColumns } from './status.ts'

interface Keyed {
  id: string
  principal: string
  idempotency_key: string | null
}

/** Jobs that are being settled. */
export interface Settleable {
  /** Those that are pending, locked. */
  pending: ReadonlyMap<string, PendingJob>
  /** For each of them that is a duplicate, the job that has the effect. */
  duplicates: ReadonlyMap<string, string>
}

/**
 * Locks those of the jobs that are still pending, and claims the keys of those that are not to be canceled, by inserting
 * them: whoever inserts first has the effect, and one who meets an insert that is still committing waits for its end.
 *
 * @param timeoutSeconds how long each of the statements after this one may take
 */
export async function lockAndClaimKeys(
  trx: AnyTransaction,
  operation: Operation,
  ids: readonly string[],
  timeoutSeconds: number,
): Promise<Settleable> {
  const { rows } = await sql<PendingJob & { is_won: boolean }>`
    with patience as materialized (
      select set_config('statement_timeout', ${`${timeoutSeconds}s`}, true)
    ), pending as materialized (
      select ${pendingColumns} from patience, accepted.job
      where ${among(ids)} and state in ${pendingList}
      order by id for update of job
    ), won as (
      insert into accepted.processed_key (operation, principal, key, job_id)
      select ${operation.name}, principal, idempotency_key, id from pending
      where idempotency_key is not null and not cancel_requested
      order by principal, idempotency_key, id
      on conflict on constraint processed_key_pkey do nothing
      returning job_id
    )
    select pending.*, won.job_id is not null as is_won from pending left join won on won.job_id = pending.id`.execute(
    trx,
  )
  const losers = rows.filter((row) => row.idempotency_key !== null && !row.cancel_requested && !row.is_won)
  return {
    pending: new Map(rows.map((row) => [row.id, row])),
    duplicates: await findDuplicates(trx, operation, losers),
  }
}

/**
 * Whose the keys are that could not be claimed; those that are nobody's any more are claimed anew. One may be the job's own
 * already, restored or written by hand.
 */
async function findDuplicates(
  trx: AnyTransaction,
  operation: Operation,
  losers: readonly Keyed[],
): Promise<Map<string, string>> {
  if (losers.length === 0) return new Map()
  const holders = await findHolders(trx, operation, losers)
  const duplicates = ofOthers(holders)
  const stale = losers.filter(({ id }) => !holders.has(id))
  if (stale.length === 0) return duplicates
  await deleteStale(trx, operation, stale)
  const { rows } = await sql<{ job_id: string }>`
    insert into accepted.processed_key (operation, principal, key, job_id)
    select ${operation.name}, principal, key, job_id
    from unnest(
      ${stale.map(({ principal }) => principal)}::text[],
      ${stale.map(({ idempotency_key }) => idempotency_key)}::text[],
      ${stale.map(({ id }) => id)}::uuid[]
    ) as mine (principal, key, job_id)
    order by principal, key, job_id
    on conflict on constraint processed_key_pkey do nothing
    returning job_id`.execute(trx)
  const winners = new Set(rows.map(({ job_id }) => job_id))
  const others = stale.filter(({ id }) => !winners.has(id))
  return new Map([...duplicates, ...(await findDuplicates(trx, operation, others))])
}

/** A key whose job's record has expired has gone with it, though its partition may still be there. */
async function deleteStale(trx: AnyTransaction, operation: Operation, jobs: readonly Keyed[]): Promise<void> {
  await sql`
    delete from accepted.processed_key processed
    using unnest(
      ${jobs.map(({ principal }) => principal)}::text[],
      ${jobs.map(({ idempotency_key }) => idempotency_key)}::text[]
    ) as mine (principal, key)
    where processed.operation = ${operation.name} and processed.principal = mine.principal and processed.key = mine.key
      and not exists (select from accepted.job where job.id = processed.job_id and job.expires_at > now())`.execute(trx)
}

/** Of these jobs, those whose key has been processed already by another job, with that one. */
export async function findProcessed(
  db: QueryExecutorProvider,
  operation: Operation,
  jobs: readonly Keyed[],
): Promise<Map<string, string>> {
  return ofOthers(await findHolders(db, operation, jobs))
}

const ofOthers = (holders: ReadonlyMap<string, string>) => new Map([...holders].filter(([id, holder]) => holder !== id))

/** Of these jobs, those whose key is held, with the job that holds it. */
async function findHolders(
  db: QueryExecutorProvider,
  operation: Operation,
  jobs: readonly Keyed[],
): Promise<Map<string, string>> {
  const keyed = jobs.filter((job) => job.idempotency_key !== null)
  if (keyed.length === 0) return new Map()
  const principals = keyed.map(({ principal }) => principal)
  const keys = keyed.map(({ idempotency_key }) => idempotency_key)
  const { rows } = await sql<{ id: string; job_id: string }>`
    select mine.id, processed.job_id
    from unnest(
      ${principals}::text[],
      ${keys}::text[],
      ${keyed.map(({ id }) => id)}::uuid[]
    ) as mine (principal, key, id)
    join accepted.processed_key processed
      on processed.operation = ${operation.name} and processed.principal = any(${principals}::text[])
      and processed.key = any(${keys}::text[]) and processed.principal = mine.principal and processed.key = mine.key
    cross join lateral (
      select from accepted.job first where first.id = processed.job_id and first.expires_at > now() limit 1
    ) as kept`.execute(db)
  return new Map(rows.map(({ id, job_id }) => [id, job_id]))
}
