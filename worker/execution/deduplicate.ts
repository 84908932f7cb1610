import { type QueryExecutorProvider, sql } from 'kysely'
import { keyLock, type LockWait, rowLock } from '../../src/db/locks.ts'
import type { AnyTransaction, Operation } from '../../src/operation.ts'
import { isPendingIn, type PendingJob, pendingColumns } from './pending-jobs.ts'

interface Keyed {
  id: string
  principal: string
  idempotency_key: string | null
}

/** The locked rows of jobs that are about to complete. */
export interface LockedJobs {
  /** The jobs that have not ended. */
  pending: ReadonlyMap<string, PendingJob>
  /** Maps the id of each duplicate to the id of the job that had the effect. */
  duplicates: ReadonlyMap<string, string>
}

const lockOfKey = (operation: string) =>
  sql`hashtextextended(idempotency_key, hashtextextended(principal, hashtextextended(${operation}, 0)))`

/**
 * Locks the jobs that have not ended, and inserts their keys into the dedup table, except for jobs with a cancel
 * request. The job whose key is inserted first has the effect; later jobs with that key are duplicates.
 *
 * @param timeoutSeconds the timeout of each later statement of the transaction
 * @param lockWait `skip` leaves out jobs that another transaction has locked, and jobs whose key it holds
 */
export async function lockAndClaimKeys(
  trx: AnyTransaction,
  operation: Operation,
  ids: readonly string[],
  { timeoutSeconds, lockWait }: { timeoutSeconds: number; lockWait: LockWait },
): Promise<LockedJobs> {
  const { rows } = await sql<PendingJob & { is_key_won: boolean }>`
    with timeout as materialized (
      select set_config('statement_timeout', ${`${timeoutSeconds}s`}, true)
    ), pending as materialized (
      select ${pendingColumns} from timeout, accepted.job where ${isPendingIn(ids)} order by id ${rowLock[lockWait]}
    ), won as (
      insert into accepted.processed_key (operation, principal, key, job_id)
      select ${operation.name}, principal, idempotency_key, id from pending
      where idempotency_key is not null and not cancel_requested
        and ${keyLock(lockOfKey(operation.name), lockWait)}
      order by principal, idempotency_key, id
      on conflict on constraint processed_key_pkey do nothing
      returning job_id
    )
    select pending.*, won.job_id is not null as is_key_won
    from pending left join won on won.job_id = pending.id`.execute(trx)
  const losers = rows.filter((row) => row.idempotency_key !== null && !row.cancel_requested && !row.is_key_won)
  const keyLocked = lockWait === 'skip' ? await findKeyLocked(trx, operation, losers) : new Set<string>()
  return {
    pending: new Map(rows.filter(({ id }) => !keyLocked.has(id)).map((row) => [row.id, row])),
    duplicates: await findDuplicates(
      trx,
      operation,
      losers.filter(({ id }) => !keyLocked.has(id)),
    ),
  }
}

/** Returns the ids of those jobs whose key another open transaction holds. A second try tells them from duplicates. */
async function findKeyLocked(trx: AnyTransaction, { name }: Operation, losers: readonly Keyed[]): Promise<Set<string>> {
  if (losers.length === 0) return new Set()
  const { rows } = await sql<{ id: string }>`
    select id
    from unnest(
      ${losers.map(({ id }) => id)}::uuid[],
      ${losers.map(({ principal }) => principal)}::text[],
      ${losers.map(({ idempotency_key }) => idempotency_key)}::text[]
    ) as loser (id, principal, idempotency_key)
    where not ${keyLock(lockOfKey(name), 'skip')}`.execute(trx)
  return new Set(rows.map(({ id }) => id))
}

/**
 * Finds the jobs that hold the keys of these jobs, and claims keys whose job no longer has a record. A job may hold its
 * own key already, when a row was restored or written by hand.
 */
async function findDuplicates(
  trx: AnyTransaction,
  operation: Operation,
  losers: readonly Keyed[],
): Promise<Map<string, string>> {
  if (losers.length === 0) return new Map()
  const holders = await findHolders(trx, operation, losers)
  const duplicates = heldByOthers(holders)
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

/** Deletes keys whose job's record has expired, although its partition may still exist. */
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

/** Maps the id of each job whose key another job has processed to the id of that other job. */
export async function findProcessed(
  db: QueryExecutorProvider,
  operation: Operation,
  jobs: readonly Keyed[],
): Promise<Map<string, string>> {
  return heldByOthers(await findHolders(db, operation, jobs))
}

const heldByOthers = (holders: ReadonlyMap<string, string>) =>
  new Map([...holders].filter(([id, holder]) => holder !== id))

/** Maps the id of each job whose key is held to the id of the job that holds it. */
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
      select from accepted.job holder where holder.id = processed.job_id and holder.expires_at > now() limit 1
    ) as kept`.execute(db)
  return new Map(rows.map(({ id, job_id }) => [id, job_id]))
}
