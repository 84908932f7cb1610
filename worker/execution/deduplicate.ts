import { sql } from 'kysely'
import { keyLock, type LockWait, rowLock } from '../../src/db/locks.ts'
import { type QuerySource, runWithGenericPlan } from '../../src/db/plan-settings.ts'
import type { AnyTransaction, Operation } from '../../src/operation.ts'
import { RetryAfter } from '../errors.ts'
import { isPendingIn, type PendingJob, pendingColumns } from './pending-jobs.ts'

interface Keyed {
  id: string
  principal: string
  idempotency_key: string | null
}

/** The row of the dedup table that holds the key of `mine`. The offset makes Postgres look it up by the primary key. */
const processedRow = ({ name }: Operation) => sql`
  lateral (
    select row.ctid, row.job_id from accepted.processed_key row
    where row.operation = ${name} and row.principal = mine.principal and row.key = mine.key offset 0
  ) as processed`

/** How long a duplicate waits for a job that has settled and waits for its children, in seconds. */
export const originalPauseSeconds = 5

/** Jobs that are about to complete and that this transaction has locked. */
export interface LockedJobs {
  /** The jobs that have not ended. */
  pending: ReadonlyMap<string, PendingJob>
  /** Maps the id of each duplicate to the id of the job that had the effect. */
  duplicates: ReadonlyMap<string, string>
}

const lockOfProcessedKey = (operation: string) =>
  sql`hashtextextended(idempotency_key, hashtextextended(principal, hashtextextended(${operation}, 0)))`

/**
 * Locks the jobs that have not ended, and inserts their keys into the dedup table. Inserts no key for a job whose
 * cancellation was requested. The job that inserts a key first has the effect. Later jobs with the same key are
 * duplicates.
 *
 * @param timeoutSeconds the timeout of each later statement of the transaction
 * @param lockWait `skip` leaves out each job whose row or key another transaction has locked
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
        and ${keyLock(lockOfProcessedKey(operation.name), lockWait)}
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

/**
 * Returns the ids of the jobs whose key another open transaction has locked. Tries to lock each key once more: this
 * fails for a locked key, but succeeds for the key of a duplicate.
 */
async function findKeyLocked(trx: AnyTransaction, { name }: Operation, losers: readonly Keyed[]): Promise<Set<string>> {
  if (losers.length === 0) return new Set()
  const { rows } = await sql<{ id: string }>`
    select id
    from unnest(
      ${losers.map(({ id }) => id)}::uuid[],
      ${losers.map(({ principal }) => principal)}::text[],
      ${losers.map(({ idempotency_key }) => idempotency_key)}::text[]
    ) as loser (id, principal, idempotency_key)
    where not ${keyLock(lockOfProcessedKey(name), 'skip')}`.execute(trx)
  return new Set(rows.map(({ id }) => id))
}

/**
 * Maps the id of each duplicate to the id of the job that holds its key. If the holder no longer has a record, takes
 * over the key instead. A job may already hold its own key, if a row was restored or written by hand. Such a job is no
 * duplicate.
 *
 * @throws RetryAfter when the holder of a key has not ended
 */
async function findDuplicates(
  trx: AnyTransaction,
  operation: Operation,
  losers: readonly Keyed[],
): Promise<Map<string, string>> {
  if (losers.length === 0) return new Map()
  const found = await findProcessedHolders(trx, operation, losers)
  if (found.some(({ is_awaited }) => is_awaited)) throw new RetryAfter(originalPauseSeconds)
  const holders = holderIds(found)
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

/**
 * Deletes keys that are held by a job whose record has expired. The row of such a job may still exist, until its
 * partition is dropped.
 */
async function deleteStale(trx: AnyTransaction, operation: Operation, jobs: readonly Keyed[]): Promise<void> {
  const statement = sql`
    delete from accepted.processed_key where ctid = any(array(
      select processed.ctid
      from unnest(
        ${jobs.map(({ principal }) => principal)}::text[],
        ${jobs.map(({ idempotency_key }) => idempotency_key)}::text[]
      ) as mine (principal, key)
      cross join ${processedRow(operation)}
      where not exists (
        -- With the offset, Postgres looks up each job. Otherwise it may read the whole status table.
        select from accepted.job
        where job.id = processed.job_id and (job.ended_at is null or job.expires_at > now()) offset 0
      )
    ))`
  await runWithGenericPlan(trx, statement)
}

/** Finds jobs whose key another job has already processed. Maps the id of each such job to the id of the other job. */
export async function findProcessed(
  db: QuerySource,
  operation: Operation,
  jobs: readonly Keyed[],
): Promise<Map<string, string>> {
  return heldByOthers(holderIds(await findProcessedHolders(db, operation, jobs)))
}

const holderIds = (holders: readonly Holder[]) => new Map(holders.map(({ id, job_id }) => [id, job_id]))

const heldByOthers = (holders: ReadonlyMap<string, string>) =>
  new Map([...holders].filter(([id, holder]) => holder !== id))

/** A job whose key is in the dedup table. */
interface Holder {
  id: string
  /** The job that holds the key. */
  job_id: string
  /** Whether that job has settled, but has not ended. It may still fail, and then its key is deleted. */
  is_awaited: boolean
}

/** Finds jobs whose key is in the dedup table. Ignores holders whose record has expired. */
async function findProcessedHolders(db: QuerySource, operation: Operation, jobs: readonly Keyed[]): Promise<Holder[]> {
  const keyed = jobs.filter((job) => job.idempotency_key !== null)
  if (keyed.length === 0) return []
  const statement = sql<Holder>`
    select mine.id, processed.job_id, processed.job_id <> mine.id and (
      exists (select from accepted.parent where job_id = processed.job_id offset 0)
      or exists (select from accepted.ending where job_id = processed.job_id offset 0)
    -- A child with the key of its parent would wait for itself.
    ) and not accepted.is_ancestor(processed.job_id, mine.id) as is_awaited
    from unnest(
      ${keyed.map(({ principal }) => principal)}::text[],
      ${keyed.map(({ idempotency_key }) => idempotency_key)}::text[],
      ${keyed.map(({ id }) => id)}::uuid[]
    ) as mine (principal, key, id)
    cross join ${processedRow(operation)}
    cross join lateral (
      select from accepted.job holder
      where holder.id = processed.job_id and (holder.ended_at is null or holder.expires_at > now()) limit 1
    ) as kept`
  return (await runWithGenericPlan(db, statement)).rows
}
