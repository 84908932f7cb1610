import { createHash } from 'node:crypto'
import canonicalize from 'canonicalize'
import { sql } from 'kysely'
import { errorCode, sqlstate } from '../db/sqlstate.ts'
import { ProblemError } from '../errors.ts'
import type { AnyTransaction } from '../operation.ts'

/** How long a request waits for another one that holds its key, in milliseconds. */
export const lockTimeout = 5_000

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
  const hash = createHash('sha256')
  for (const part of [method, path, sortQuery(query), mediaType, canonicalize(body) ?? '']) {
    // The length first, so that no two lists of parts read the same.
    hash.update(`${Buffer.byteLength(part)}:`).update(part)
  }
  return hash.digest()
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

/**
 * Claims keys by inserting them: whoever inserts first has the key, and one who meets a claim that is still committing
 * waits for its end. Answers, for each claim, the job that the key belongs to now, and the fingerprint it was claimed
 * with; a claim that was won answers itself.
 *
 * @throws ProblemError idempotency-key-locked when somebody holds a key longer than the lock timeout
 */
export async function claimKeys(trx: AnyTransaction, claims: readonly KeyClaim[]): Promise<KeyClaim[]> {
  try {
    return await insertOrFind(trx, claims)
  } catch (error) {
    if (errorCode(error) !== sqlstate.lockNotAvailable) throw error
    throw keyLocked(error)
  }
}

/** Somebody holds a key for too long. */
export const keyLocked = (cause?: unknown): ProblemError =>
  new ProblemError('idempotency-key-locked', undefined, { retryAfterSeconds: 1, cause })

async function insertOrFind(trx: AnyTransaction, claims: readonly KeyClaim[]): Promise<KeyClaim[]> {
  const sorted = claims.toSorted((a, b) => (`${a.principal}\0${a.key}` < `${b.principal}\0${b.key}` ? -1 : 1))
  const { rows: won } = await sql<{ job_id: string }>`
    with waiting as materialized (select set_config('lock_timeout', ${String(lockTimeout)}, true))
    insert into accepted.idempotency_key (principal, key, fingerprint, job_id)
    select new.principal, new.key, new.fingerprint, new.job_id
    from waiting, unnest(
      ${sorted.map((claim) => claim.principal)}::text[],
      ${sorted.map((claim) => claim.key)}::text[],
      ${sorted.map((claim) => claim.fingerprint)}::bytea[],
      ${sorted.map((claim) => claim.jobId)}::uuid[]
    ) as new (principal, key, fingerprint, job_id)
    on conflict on constraint idempotency_key_pkey do nothing
    returning job_id`.execute(trx)
  const wonFor = new Set(won.map((row) => row.job_id))
  const holders: KeyClaim[] = []
  for (const claim of claims) holders.push(wonFor.has(claim.jobId) ? claim : await findHolder(trx, claim))
  return holders
}

/** Who holds a key that was there before. A key whose job's record has gone, has gone with it and is taken over. */
async function findHolder(trx: AnyTransaction, claim: KeyClaim): Promise<KeyClaim> {
  const { rows } = await sql<{ fingerprint: Buffer; job_id: string }>`
    select fingerprint, job_id from accepted.idempotency_key
    where principal = ${claim.principal} and key = ${claim.key} for update`.execute(trx)
  const [held] = rows
  // Deleted in between, with its job.
  if (!held) return (await insertOrFind(trx, [claim]))[0] as KeyClaim
  // A statement of its own: one that waited for the lock would still look at jobs as they were before the wait.
  const { rows: jobs } = await sql`
    select from accepted.job
    where id = ${held.job_id} and (ended_at is null or expires_at > now())`.execute(trx)
  if (jobs.length > 0) return { ...claim, fingerprint: held.fingerprint, jobId: held.job_id }
  await sql`
    update accepted.idempotency_key
    set fingerprint = ${claim.fingerprint}, job_id = ${claim.jobId}, created_at = now()
    where principal = ${claim.principal} and key = ${claim.key}`.execute(trx)
  return claim
}
