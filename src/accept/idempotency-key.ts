import { hash } from 'node:crypto'
import canonicalize from 'canonicalize'
import { type RawBuilder, sql } from 'kysely'
import { keyLock, type LockWait } from '../db/locks.ts'
import { errorCode, sqlstate } from '../db/sqlstate.ts'
import { ProblemError } from '../errors.ts'
import type { AnyTransaction } from '../operation.ts'

/** How long a request waits for another one with the same key, in milliseconds. */
export const keyLockTimeoutMs = 5_000

/** The timeouts of an accepting transaction, in milliseconds. A batch must not wait long; a single request may. */
const timeoutsMs: Readonly<Record<LockWait, { lock: number; statement: number }>> = {
  skip: { lock: 500, statement: 2_000 },
  wait: { lock: keyLockTimeoutMs, statement: 30_000 },
}

const printableAscii = /^[\x20-\x7e]{1,255}$/
// RFC 9651, section 3.3.3: a string, in which a backslash escapes itself and the quote.
const structuredString = /^"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"$/

/**
 * Parses the Idempotency-Key header (draft-ietf-httpapi-idempotency-key-header-07). `"abc"`, a structured string, and a
 * bare `abc` are the same key.
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

/** The parts of a request that a fingerprint covers. Preferences, trace context and credentials are not among them. */
export interface Fingerprinted {
  method: string
  path: string
  query: string
  mediaType: string
  body: unknown
}

/** Computes SHA-256 over a request, with the query sorted and the body in canonical JSON (RFC 8785). */
export function fingerprint({ method, path, query, mediaType, body }: Fingerprinted): Buffer {
  const parts = [method, path, sortQuery(query), mediaType, canonicalize(body) ?? '']
  // Each part starts with its length, so that different parts never concatenate to the same text.
  return hash('sha256', parts.map((part) => `${Buffer.byteLength(part)}:${part}`).join(''), 'buffer')
}

/**
 * Sorts the parameters by name. Parameters with the same name keep their order, because it may matter. Does not decode
 * them, because decoding could make different queries equal.
 */
function sortQuery(query: string): string {
  const pairs = query.split('&').map((pair) => ({ pair, name: pair.split('=', 1)[0] as string }))
  return pairs
    .sort((a, b) => Number(a.name > b.name) - Number(a.name < b.name))
    .map(({ pair }) => pair)
    .join('&')
}

/** A key to claim for a job. */
export interface KeyClaim {
  principal: string
  key: string
  fingerprint: Buffer
  jobId: string
}

/**
 * Claims keys by inserting them, each under an advisory lock: the first insert wins. Returns, for each claim, the claim
 * that now holds the key: the same claim if it won. When the list has two claims for one key, the first wins.
 *
 * @param lockWait `skip` returns undefined for a key that another open transaction holds
 * @throws ProblemError idempotency-key-locked when another transaction holds a key longer than 5 seconds
 */
export async function claimKeys(
  trx: AnyTransaction,
  claims: readonly KeyClaim[],
  lockWait: LockWait = 'wait',
): Promise<(KeyClaim | undefined)[]> {
  const byKey = Map.groupBy(claims, nameOf)
  const firsts = [...byKey.values()].map(([first]) => first as KeyClaim)
  try {
    const holders = await insertOrFind(trx, firsts, lockWait)
    return claims.map((claim) => holders.get(nameOf(claim)))
  } catch (error) {
    if (lockWait === 'skip' || errorCode(error) !== sqlstate.lockNotAvailable) throw error
    throw keyLocked(error)
  }
}

const nameOf = ({ principal, key }: Pick<KeyClaim, 'principal' | 'key'>) => `${principal}\0${key}`

/** Creates the error for a key that another transaction has held for too long. */
export const keyLocked = (cause?: unknown): ProblemError =>
  new ProblemError('idempotency-key-locked', undefined, { retryAfterSeconds: 1, cause })

const lockOfKey = sql`hashtextextended(key, hashtextextended(principal, 0))`

const localTimeouts = (lockWait: LockWait): RawBuilder<unknown> => sql`
  set_config('lock_timeout', ${String(timeoutsMs[lockWait].lock)}, true),
  set_config('statement_timeout', ${String(timeoutsMs[lockWait].statement)}, true)`

/** Sets the timeouts of a transaction without keys; {@link claimKeys} sets the same ones. */
export const setTimeouts = async (trx: AnyTransaction, lockWait: LockWait): Promise<void> =>
  void (await sql`select ${localTimeouts(lockWait)}`.execute(trx))

/** Maps the name of each key to the claim that holds it. Leaves out keys that another transaction has locked. */
async function insertOrFind(
  trx: AnyTransaction,
  claims: readonly KeyClaim[],
  lockWait: LockWait,
): Promise<Map<string, KeyClaim>> {
  // All transactions lock keys in the same order, so that they cannot deadlock.
  const sorted = claims.toSorted((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1))
  const { rows } = await sql<{ job_id: string; is_locked: boolean; is_won: boolean }>`
    with timeouts as materialized (select ${localTimeouts(lockWait)}),
    wanted as materialized (
      select wanted.*, ${keyLock(lockOfKey, lockWait)} as is_locked
      from timeouts, unnest(
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
    select wanted.job_id, is_locked, won.job_id is not null as is_won
    from wanted left join won on won.job_id = wanted.job_id`.execute(trx)
  const found = new Map(rows.map((row) => [row.job_id, row]))
  const isWon = ({ jobId }: KeyClaim) => found.get(jobId)?.is_won === true
  const isTaken = (claim: KeyClaim) => found.get(claim.jobId)?.is_locked === true && !isWon(claim)
  const holders = new Map(sorted.filter(isWon).map((claim) => [nameOf(claim), claim]))
  for (const holder of await findHolders(trx, sorted.filter(isTaken))) holders.set(nameOf(holder), holder)
  return holders
}

/** Finds the holders of keys that already existed. Takes over a key when the record of its job has expired. */
async function findHolders(trx: AnyTransaction, claims: readonly KeyClaim[]): Promise<KeyClaim[]> {
  if (claims.length === 0) return []
  // A separate statement, because the one that took the locks reads jobs as they were before it waited.
  const { rows } = await sql<{ principal: string; key: string; fingerprint: Buffer; job_id: string; is_kept: boolean }>`
    select held.principal, held.key, held.fingerprint, held.job_id, exists (
      select from accepted.job where id = held.job_id and (ended_at is null or expires_at > now())
    ) as is_kept
    from unnest(
      ${claims.map((claim) => claim.principal)}::text[],
      ${claims.map((claim) => claim.key)}::text[]
    ) as wanted (principal, key)
    join accepted.idempotency_key held on held.principal = wanted.principal and held.key = wanted.key`.execute(trx)
  const kept = new Map(rows.filter(({ is_kept }) => is_kept).map((row) => [nameOf(row), row]))
  const free = claims.filter((claim) => !kept.has(nameOf(claim)))
  await takeOver(trx, free)
  return claims.map((claim) => {
    const row = kept.get(nameOf(claim))
    return row ? { ...claim, fingerprint: row.fingerprint, jobId: row.job_id } : claim
  })
}

async function takeOver(trx: AnyTransaction, claims: readonly KeyClaim[]): Promise<void> {
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
