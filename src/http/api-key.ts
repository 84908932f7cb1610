import type { FastifyRequest } from 'fastify'
import { sql } from 'kysely'
import type { Database } from '../db/database.ts'
import type { Authenticate, Identity } from '../identity.ts'
import { hashSecret, isValidKey } from '../jobs/api-key.ts'
import { bearerTokenOf } from '../primitives/bearer-token.ts'
import { BoundedMap } from '../primitives/bounded-map.ts'
import { isLoopbackAddress } from '../primitives/networks.ts'

/** A revoked key may still be accepted for this long. */
const identityCacheMs = 1_000
const maxCachedKeys = 10_000
/** `last_used_at` is updated at most this often for each key. */
const lastUsedPrecision = sql`interval '1 minute'`

/** The principal of a request without a key, until the first key exists. */
const anonymous = 'anonymous'

interface CachedIdentity {
  identity: Promise<Identity | typeof anonymous | null>
  expiresAt: number
}

export interface ApiKeyOptions {
  /** Serves requests without a key from other machines too, until the first key exists. */
  allowAnonymous?: boolean
}

/**
 * Authenticates requests by `Authorization: Bearer <key>` (RFC 6750). Until the first key exists, a request without a
 * key has the principal `anonymous` if it comes from this machine, or if `allowAnonymous` is set. Unknown, expired and
 * revoked keys are always refused.
 */
export function authenticateByApiKey(database: Database, { allowAnonymous = false }: ApiKeyOptions = {}): Authenticate {
  const cache = new BoundedMap<CachedIdentity>(maxCachedKeys)
  return async (request) => {
    const header = request.headers.authorization
    const key = bearerTokenOf(header)
    if (header !== undefined && !key) return null
    if (key === undefined && !allowAnonymous && !isFromThisMachine(request)) return null
    // A request without a key also needs the query, because it is allowed only until the first key exists.
    const hash = key === undefined ? null : hashSecret(key)
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

/** A proxy on this machine also makes its requests local, so an app behind a proxy needs a key. */
const isFromThisMachine = ({ socket }: FastifyRequest): boolean => isLoopbackAddress(socket.remoteAddress)

interface IdentityRow {
  had_keys: boolean
  id: string | null
  principal: string
  scopes: string[]
  operations: string[] | null
  is_used_again: boolean
}

async function identify({ kysely }: Database, hash: Buffer | null): Promise<Identity | typeof anonymous | null> {
  const { rows } = await sql<IdentityRow>`
    select api_key.id, principal, scopes, operations, ${hash}::bytea is not null or accepted.has_had_keys() as had_keys,
      last_used_at is null or last_used_at < now() - ${lastUsedPrecision} as is_used_again
    from (values (${hash}::bytea)) as given (hash)
    left join accepted.api_key on api_key.hash = given.hash
      and ${isValidKey}`.execute(kysely)
  const [row] = rows as [IdentityRow]
  if (row.id === null) return row.had_keys ? null : anonymous
  if (row.is_used_again) recordUse(kysely, row.id)
  const { id: keyId, principal, scopes, operations } = row
  return { principal, scopes, keyId, ...(operations && { operations }) }
}

/** The request does not wait for it. If the update fails, for example on a read-only server, a later request tries again. */
function recordUse(kysely: Database['kysely'], id: string): void {
  sql`update accepted.api_key set last_used_at = now()
    where id = ${id} and (last_used_at is null or last_used_at < now() - ${lastUsedPrecision})`
    .execute(kysely)
    .catch(() => {})
}
