import { hash } from 'node:crypto'
import canonicalize from 'canonicalize'
import { type RawBuilder, sql } from 'kysely'
import { errorCode, sqlstate } from '../db/sqlstate.ts'
import { ProblemError } from '../errors.ts'
import type { AnyTransaction } from '../operation.ts'

/** How long a request waits for another one that holds its key, in milliseconds. */
export const lockTimeout = 5_000
/** How long any statement may take that comes after the claim of a key, in milliseconds. */
const statementTimeout = 30_000
/** How long a batch waits for any lock of somebody else's, and for any statement, in milliseconds. */
const batchLockTimeout = 500
const batchStatementTimeout = 2_000

const printableAscii = /^[\x20-\x7e]{1,255}$/
// RFC 9651, section 3.3.3: a string, in which a backslash escapes itself and the quote.
const structuredString = /^"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"$/

/**
 * Reads the Idempotency-Key header (draft-ietf-httpapi-idempotency-key-header-07). A structured string and the same
 * characters bare are the same key.
 *
 * @param values the header's field lines
 * @throws ProblemError invalid-idempotency-key
 */
export function parseIdempotencyKey(values: readonly string[]): string | undefined {
  const [value, ...more] = values
  if (value === undefined) return undefined
  if (more.length > 0) throw new ProblemError('invalid-idempotency-key', 'There is more than one Idempotency-Key')
  const text = value.trim()
  const key = text.startsWith('"') ? text.match(structuredString)?.[1]?.replace(/\\(["\\])/g, '$1') : text
  if (key === undefined || !printableAscii.test(key)) {
    throw new ProblemError('invalid-idempotency-key', 'The Idempotency-Key must be 1 to 255 printable ASCII characters')
  }
  return key
}

/** What makes two requests the same one; preferences, trace and credentials do not. */
export interface Fingerprinted {
  method: string
  path: string
  query: string
  mediaType: string
  body: unknown
}

/** SHA-256 over the request, with the query sorted and the body in canonical JSON (RFC 8785). */
export function fingerprint({ method, path, query, mediaType, body }: Fingerprinted): Buffer {
  const parts = [method, path, sortQuery(query), mediaType, canonicalize(body) ?? '']
  // The length first, so that no two lists of parts read the same.
  return hash('sha256', parts.map((part) => `${Buffer.byteLength(part)}:${part}`).join(''), 'buffer')
}

/** By name, and those of one name as they were, for their order may mean something. Not decoded: that loses what is odd. */
function sortQuery(query: string): string {
  const pairs = query.split('&').map((pair) => ({ pair, name: pair.split('=', 1)[0] as string }))
  return pairs
    .sort((a, b) => Number(a.name > b.name) - Number(a.name < b.name))
    .map(({ pair }) => pair)
    .join('&')
}

/** A key that wants to be claimed for a job. */
export interface KeyClaim {
  principal: string
  key: string
  fingerprint: Buffer
  jobId: string
}

/** What to do about a key that another request holds which is still being accepted: wait for its end, or go on without. */
export type WhenHeld = 'wait' | 'skip'

/**
 * Claims keys by inserting them, each under a lock: whoever inserts first has the key. Answers, for each claim, the job
 * that the key belongs to now, and the fingerprint it was claimed with; a claim that was won answers itself. Of two claims
 * of one key the first wins.
 *
 * @param whenHeld `skip` answers nothing for such a key: with a batch, it is nobody else's to wait for
 * @throws ProblemError idempotency-key-locked when somebody holds a key longer than the lock timeout
 */
export async function claimKeys(
  trx: AnyTransaction,
  claims: readonly KeyClaim[],
  whenHeld: WhenHeld = 'wait',
): Promise<(KeyClaim | undefined)[]> {
  const byKey = Map.groupBy(claims, nameOf)
  const firsts = [...byKey.values()].map(([first]) => first as KeyClaim)
  try {
    const holders = await insertOrFind(trx, firsts, whenHeld)
    return claims.map((claim) => holders.get(nameOf(claim)))
  } catch (error) {
    if (whenHeld === 'skip' || errorCode(error) !== sqlstate.lockNotAvailable) throw error
    throw keyLocked(error)
  }
}

const nameOf = ({ principal, key }: Pick<KeyClaim, 'principal' | 'key'>) => `${principal}\0${key}`

/** Somebody holds a key for too long. */
export const keyLocked = (cause?: unknown): ProblemError =>
  new ProblemError('idempotency-key-locked', undefined, { retryAfterSeconds: 1, cause })

const lockOf = sql`hashtextextended(key, hashtextextended(principal, 0))`

const locks: Record<WhenHeld, RawBuilder<unknown>> = {
  wait: sql`pg_advisory_xact_lock(${lockOf})::text is not null`,
  skip: sql`pg_try_advisory_xact_lock(${lockOf})`,
}

const bounds: Record<WhenHeld, RawBuilder<unknown>> = {
  wait: sql`
    set_config('lock_timeout', ${String(lockTimeout)}, true),
    set_config('statement_timeout', ${String(statementTimeout)}, true)`,
  skip: sql`
    set_config('lock_timeout', ${String(batchLockTimeout)}, true),
    set_config('statement_timeout', ${String(batchStatementTimeout)}, true)`,
}

/** Bounds how long the transaction waits, as {@link claimKeys} does for what comes after it. */
export const boundWaiting = async (trx: AnyTransaction, whenHeld: WhenHeld): Promise<void> =>
  void (await sql`select ${bounds[whenHeld]}`.execute(trx))

/** By the name of the key, who has it; without those that are held by somebody else. */
async function insertOrFind(
  trx: AnyTransaction,
  claims: readonly KeyClaim[],
  whenHeld: WhenHeld,
): Promise<Map<string, KeyClaim>> {
  // In one order, so that two who wait never wait for each other.
  const sorted = claims.toSorted((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1))
  const { rows } = await sql<{ job_id: string; is_locked: boolean; is_won: boolean }>`
    with waiting as materialized (select ${bounds[whenHeld]}),
    wanted as materialized (
      select wanted.*, ${locks[whenHeld]} as is_locked
      from waiting, unnest(
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

/** Who holds keys that were there before. A key whose job's record has gone, has gone with it and is taken over. */
async function findHolders(trx: AnyTransaction, claims: readonly KeyClaim[]): Promise<KeyClaim[]> {
  if (claims.length === 0) return []
  // A statement of its own: the one that took the locks still looks at jobs as they were before it waited.
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
