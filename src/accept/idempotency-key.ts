import { sql } from 'kysely'
import { keyLock, type LockWait, setLockTimeout, withLockTimeoutError } from '../db/locks.ts'
import { type QuerySource, runWithGenericPlan } from '../db/plan-settings.ts'
import { isRow } from '../db/row-lookup.ts'
import { milliseconds } from '../db/timestamp.ts'
import { ProblemError } from '../errors.ts'
import type { AnyTransaction } from '../operation.ts'

/** How long a request waits for another request with the same key, in milliseconds. */
export const keyLockTimeoutMs = 5_000

/**
 * The timeouts of a transaction that accepts requests, in milliseconds. `skip` is for a batch, which must not wait
 * long. `wait` is for a single request.
 */
const timeoutsMs: Readonly<Record<LockWait, { lock: number; statement: number }>> = {
  skip: { lock: 500, statement: 2_000 },
  wait: { lock: keyLockTimeoutMs, statement: 30_000 },
}

const printableAscii = /^[\x20-\x7e]{1,255}$/
// A string of RFC 9651, section 3.3.3. In it, a backslash must precede each quote and each backslash.
const structuredString = /^"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"$/

/**
 * Parses the Idempotency-Key header (draft-ietf-httpapi-idempotency-key-header-07). The structured string `"abc"` and
 * the bare text `abc` are the same key.
 *
 * @param values the header's field lines
 * @throws ProblemError invalid-idempotency-key
 */
export function parseIdempotencyKey(values: readonly string[]): string | undefined {
  const [value, ...more] = values
  if (value === undefined) return undefined
  if (more.length > 0)
    throw new ProblemError('invalid-idempotency-key', 'The request has more than one Idempotency-Key header')
  const text = value.trim()
  const key = text.startsWith('"') ? text.match(structuredString)?.[1]?.replace(/\\(["\\])/g, '$1') : text
  if (key === undefined || !printableAscii.test(key)) {
    throw new ProblemError('invalid-idempotency-key', 'The Idempotency-Key must be 1 to 255 printable ASCII characters')
  }
  return key
}

/** A key, and the job that takes it. */
export interface KeyClaim {
  principal: string
  key: string
  fingerprint: Buffer
  jobId: string
}

/**
 * Takes keys for jobs by inserting the keys. An advisory lock per key makes other transactions wait or skip the key.
 * Returns one element for each element of `claims`, in the same order. If the key was free, the returned element has
 * the same job. Otherwise it has the job and the fingerprint of the request that took the key earlier. If `claims`
 * contains a key twice, the first element takes the key.
 *
 * @param lockWait with `skip`, the returned element is undefined if another open transaction has locked the key
 * @throws ProblemError idempotency-key-locked when another transaction keeps a key locked for more than 5 seconds
 */
export async function claimKeys(
  trx: AnyTransaction,
  claims: readonly KeyClaim[],
  lockWait: LockWait = 'wait',
): Promise<(KeyClaim | undefined)[]> {
  if (claims.length === 0) return []
  const byKey = Map.groupBy(claims, nameOf)
  const firsts = [...byKey.values()].map(([first]) => first as KeyClaim)
  const find = () => insertOrFind(trx, firsts, lockWait)
  const holders = await (lockWait === 'wait' ? withLockTimeoutError(find, keyLocked) : find())
  return claims.map((claim) => holders.get(nameOf(claim)))
}

const nameOf = ({ principal, key }: Pick<KeyClaim, 'principal' | 'key'>) => `${principal}\0${key}`

/** Creates the error for a key that another request has kept locked for too long. */
export const keyLocked = (cause?: unknown): ProblemError =>
  new ProblemError('idempotency-key-locked', undefined, { retryAfterSeconds: 1, cause })

const lockOfKey = sql`hashtextextended(key, hashtextextended(principal, 0))`

/** Sets the timeouts of a transaction that accepts requests. Returns the `now()` of the transaction. */
export async function setTimeouts(trx: AnyTransaction, lockWait: LockWait): Promise<Date> {
  const { rows } = await sql<{ now_ms: string }>`
    select ${setLockTimeout(timeoutsMs[lockWait].lock)},
      set_config('statement_timeout', ${String(timeoutsMs[lockWait].statement)}, true),
      ${milliseconds(sql`now()`)} as now_ms`.execute(trx)
  return new Date(Number(rows[0]?.now_ms))
}

/**
 * Inserts the keys that are free, and reads which jobs have the others. Returns, by the name of the key, the claim that
 * now has it. Leaves out keys that another transaction has locked.
 */
async function insertOrFind(
  trx: AnyTransaction,
  claims: readonly KeyClaim[],
  lockWait: LockWait,
): Promise<Map<string, KeyClaim>> {
  // All transactions lock keys in the same order, so that they cannot deadlock.
  const sorted = claims.toSorted((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1))
  const { rows } = await sql<{ job_id: string; is_locked: boolean }>`
    with wanted as materialized (
      select wanted.*, ${keyLock(lockOfKey, lockWait)} as is_locked
      from unnest(
        ${sorted.map((claim) => claim.principal)}::text[],
        ${sorted.map((claim) => claim.key)}::text[],
        ${sorted.map((claim) => claim.fingerprint)}::bytea[],
        ${sorted.map((claim) => claim.jobId)}::uuid[]
      ) as wanted (principal, key, fingerprint, job_id)
    ),
    won as (
      insert into accepted.idempotency_key (principal, key, fingerprint, job_id)
      select principal, key, fingerprint, job_id from wanted where is_locked
      on conflict on constraint idempotency_key_pkey do nothing
      returning job_id
    )
    -- Nearly always, all keys are free, and no row is returned.
    select job_id, is_locked from wanted where job_id not in (select job_id from won)`.execute(trx)
  const isLocked = new Map(rows.map((row) => [row.job_id, row.is_locked]))
  const isWon = ({ jobId }: KeyClaim) => !isLocked.has(jobId)
  const isTaken = ({ jobId }: KeyClaim) => isLocked.get(jobId) === true
  const holders = new Map(sorted.filter(isWon).map((claim) => [nameOf(claim), claim]))
  for (const holder of await findHolders(trx, sorted.filter(isTaken))) holders.set(nameOf(holder), holder)
  return holders
}

/** Finds the holders of keys that already exist. Takes over a key if the record of its job has expired. */
async function findHolders(trx: AnyTransaction, claims: readonly KeyClaim[]): Promise<KeyClaim[]> {
  if (claims.length === 0) return []
  // This must be a separate statement. The statement that waited for the locks sees the jobs as they were before the
  // wait.
  const statement = sql<{ principal: string; key: string; fingerprint: Buffer; job_id: string; is_kept: boolean }>`
    select held.principal, held.key, held.fingerprint, held.job_id, exists (
      -- With the offset, Postgres looks up each job. Otherwise it may read the whole status table.
      select from accepted.job where id = held.job_id and (ended_at is null or expires_at > now()) offset 0
    ) as is_kept
    from unnest(
      ${claims.map((claim) => claim.principal)}::text[],
      ${claims.map((claim) => claim.key)}::text[]
    ) as wanted (principal, key)
    join accepted.idempotency_key held
      on ${isRow([sql`held.principal`, sql`held.key`], [sql`wanted.principal`, sql`wanted.key`])}`
  const { rows } = await runWithGenericPlan(trx, statement)
  const kept = new Map(rows.filter(({ is_kept }) => is_kept).map((row) => [nameOf(row), row]))
  const free = claims.filter((claim) => !kept.has(nameOf(claim)))
  await takeOver(trx, free)
  return claims.map((claim) => {
    const row = kept.get(nameOf(claim))
    return row ? { ...claim, fingerprint: row.fingerprint, jobId: row.job_id } : claim
  })
}

/** Returns whether an earlier request has taken a key, and the record of its job still exists. */
export async function isKeyTaken(db: QuerySource, principal: string, key: string): Promise<boolean> {
  const statement = sql`
    select from accepted.idempotency_key held
    where ${isRow([sql`held.principal`, sql`held.key`], [sql`${principal}::text`, sql`${key}::text`])} and exists (
      select from accepted.job where id = held.job_id and (ended_at is null or expires_at > now()) offset 0
    )`
  return (await runWithGenericPlan(db, statement)).rows.length > 0
}

/** Gives keys to other jobs. The transaction must have locked the keys. */
export async function takeOver(trx: AnyTransaction, claims: readonly KeyClaim[]): Promise<void> {
  if (claims.length === 0) return
  await sql`
    insert into accepted.idempotency_key (principal, key, fingerprint, job_id)
    select principal, key, fingerprint, job_id
    from unnest(
      ${claims.map((claim) => claim.principal)}::text[],
      ${claims.map((claim) => claim.key)}::text[],
      ${claims.map((claim) => claim.fingerprint)}::bytea[],
      ${claims.map((claim) => claim.jobId)}::uuid[]
    ) as mine (principal, key, fingerprint, job_id)
    on conflict on constraint idempotency_key_pkey do update set
      fingerprint = excluded.fingerprint, job_id = excluded.job_id, created_at = now()`.execute(trx)
}
