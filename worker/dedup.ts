import { sql } from 'kysely'
import type { AnyTransaction, Operation } from '../src/operation.ts'

interface Keyed {
  id: string
  principal: string
  idempotency_key: string | null
}

/**
 * Claims the keys of jobs that are being settled, by inserting them: whoever inserts first has the effect, and one who
 * meets an insert that is still committing waits for its end.
 *
 * @returns for each duplicate, the job that has the effect
 */
export async function claimProcessedKeys(
  trx: AnyTransaction,
  operation: Operation,
  jobs: readonly Keyed[],
): Promise<Map<string, string>> {
  const keyed = jobs.filter((job) => job.idempotency_key !== null)
  if (keyed.length === 0) return new Map()
  const { rows: won } = await sql<{ job_id: string }>`
    insert into accepted.processed_key (operation, principal, key, job_id)
    select ${operation.name}, principal, key, job_id
    from unnest(
      ${keyed.map(({ principal }) => principal)}::text[],
      ${keyed.map(({ idempotency_key }) => idempotency_key)}::text[],
      ${keyed.map(({ id }) => id)}::uuid[]
    ) as mine (principal, key, job_id)
    order by principal, key, job_id
    on conflict on constraint processed_key_pkey do nothing
    returning job_id`.execute(trx)
  const winners = new Set(won.map(({ job_id }) => job_id))
  const losers = keyed.filter(({ id }) => !winners.has(id))
  if (losers.length === 0) return new Map()
  const duplicates = await findProcessed(trx, operation, losers)
  const stale = losers.filter(({ id }) => !duplicates.has(id))
  if (stale.length === 0) return duplicates
  await deleteStale(trx, operation, stale)
  return new Map([...duplicates, ...(await claimProcessedKeys(trx, operation, stale))])
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

/** Of these jobs, those whose key has been processed already, with the job that did. */
export async function findProcessed(
  db: AnyTransaction,
  operation: Operation,
  jobs: readonly Keyed[],
): Promise<Map<string, string>> {
  const keyed = jobs.filter((job) => job.idempotency_key !== null)
  if (keyed.length === 0) return new Map()
  const { rows } = await sql<{ id: string; job_id: string }>`
    select mine.id, processed.job_id
    from unnest(
      ${keyed.map(({ principal }) => principal)}::text[],
      ${keyed.map(({ idempotency_key }) => idempotency_key)}::text[],
      ${keyed.map(({ id }) => id)}::uuid[]
    ) as mine (principal, key, id)
    join accepted.processed_key processed
      on processed.operation = ${operation.name} and processed.principal = mine.principal and processed.key = mine.key
    join accepted.job first on first.id = processed.job_id and first.expires_at > now()
    where processed.job_id <> mine.id`.execute(db)
  return new Map(rows.map(({ id, job_id }) => [id, job_id]))
}
