import { createHash } from 'node:crypto'
import { sql } from 'kysely'
import type { Authenticate, Identity } from '../config.ts'
import type { Database } from '../db/database.ts'
import { BoundedMap } from '../primitives/bounded-map.ts'

/** Hashes a key for storage. A fast hash without salt is enough, because a key has 256 random bits. */
export const hashApiKey = (key: string): Buffer => createHash('sha256').update(key).digest()

/** A revoked key may still be accepted for this long. */
const identityCacheMs = 1_000
const maxCachedKeys = 10_000

interface CachedIdentity {
  identity: Promise<Identity | 'anonymous' | null>
  expiresAt: number
}

/**
 * Authenticates requests by `Authorization: Bearer <key>` (RFC 6750). While no key exists, every request without a key
 * has the principal `anonymous`. Unknown and revoked keys are always refused.
 */
export function authenticateByApiKey(database: Database): Authenticate {
  const cache = new BoundedMap<CachedIdentity>(maxCachedKeys)
  return async (request) => {
    const header = request.headers.authorization
    const key = header?.match(/^Bearer +([\x21-\x7e]+)$/i)?.[1]
    if (header !== undefined && !key) return null
    // A request without a key also needs the query, because it is allowed only while no key exists.
    const hash = key === undefined ? null : hashApiKey(key)
    const cacheKey = hash?.toString('base64') ?? ''
    const cached = cache.get(cacheKey)
    if (cached && performance.now() < cached.expiresAt) return cached.identity
    const identity = identify(database, hash)
    cache.set(cacheKey, { identity, expiresAt: performance.now() + identityCacheMs })
    // Errors and refusals are not cached. A key that is refused now may be created at any moment.
    const forget = () => cache.delete(cacheKey)
    identity.then((found) => found === null && forget(), forget)
    return identity
  }
}

async function identify({ kysely }: Database, hash: Buffer | null): Promise<Identity | 'anonymous' | null> {
  const { rows } = await sql<Partial<Identity> & { keys: boolean }>`
    select principal, scopes, api_key.id as "keyId", exists (select from accepted.api_key) as keys
    from (values (${hash}::bytea)) as given (hash)
    left join accepted.api_key on api_key.hash = given.hash and revoked_at is null`.execute(kysely)
  const [{ principal, scopes, keyId, keys: anyKeyExists }] = rows as [Partial<Identity> & { keys: boolean }]
  if (principal && scopes && keyId) return { principal, scopes, keyId }
  return hash || anyKeyExists ? null : 'anonymous'
}
