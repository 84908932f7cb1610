import { createHash } from 'node:crypto'
import { sql } from 'kysely'
import type { Authenticate, Identity } from '../config.ts'
import type { Database } from '../db/database.ts'
import { RecentMap } from '../recent-map.ts'

/** What is stored of a key. A key has 256 random bits, so a fast hash is enough. */
export const hashApiKey = (key: string): Buffer => createHash('sha256').update(key).digest()

/** How long it is remembered whose a key is, in milliseconds: so long one that is revoked may go on. */
const rememberedFor = 1_000
const mostRemembered = 10_000

interface Remembered {
  identity: Promise<Identity | 'anonymous' | null>
  until: number
}

/**
 * Authenticates by `Authorization: Bearer <key>` (RFC 6750). As long as there is no key at all, everybody is
 * `anonymous`; a key that is unknown or revoked is nobody in any case.
 */
export function authenticateByApiKey(database: Database): Authenticate {
  const remembered = new RecentMap<Remembered>(mostRemembered)
  return async (request) => {
    const header = request.headers.authorization
    const key = header?.match(/^Bearer +([\x21-\x7e]+)$/i)?.[1]
    if (header !== undefined && !key) return null
    // Without a key as well: there may be none yet.
    const hash = key === undefined ? null : hashApiKey(key)
    const name = hash?.toString('base64') ?? ''
    const known = remembered.get(name)
    if (known && performance.now() < known.until) return known.identity
    const identity = identify(database, hash)
    remembered.set(name, { identity, until: performance.now() + rememberedFor })
    // Whoever is nobody may be somebody the next moment, and an error is nobody's.
    const forget = () => remembered.delete(name)
    identity.then((found) => found === null && forget(), forget)
    return identity
  }
}

async function identify({ kysely }: Database, hash: Buffer | null): Promise<Identity | 'anonymous' | null> {
  const { rows } = await sql<Partial<Identity> & { keys: boolean }>`
    select principal, scopes, exists (select from accepted.api_key) as keys
    from (values (${hash}::bytea)) as given (hash)
    left join accepted.api_key on api_key.hash = given.hash and revoked_at is null`.execute(kysely)
  const [{ principal, scopes, keys }] = rows as [Partial<Identity> & { keys: boolean }]
  if (principal && scopes) return { principal, scopes }
  return hash || keys ? null : 'anonymous'
}
