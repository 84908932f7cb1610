import { createHash } from 'node:crypto'
import { sql } from 'kysely'
import type { Authenticate, Identity } from '../config.ts'
import type { Database } from '../db/database.ts'

/** What is stored of a key. A key has 256 random bits, so a fast hash is enough. */
export const hashApiKey = (key: string): Buffer => createHash('sha256').update(key).digest()

/**
 * Authenticates by `Authorization: Bearer <key>` (RFC 6750). As long as there is no key at all, everybody is
 * `anonymous`; a key that is unknown or revoked is nobody in any case.
 */
export function authenticateByApiKey({ kysely }: Database): Authenticate {
  return async (request) => {
    const header = request.headers.authorization
    const key = header?.match(/^Bearer +([\x21-\x7e]+)$/i)?.[1]
    if (header !== undefined && !key) return null
    const { rows } = await sql<Partial<Identity> & { keys: boolean }>`
      select principal, scopes, exists (select from accepted.api_key) as keys
      from (values (${key ? hashApiKey(key) : null}::bytea)) as given (hash)
      left join accepted.api_key on api_key.hash = given.hash and revoked_at is null`.execute(kysely)
    const [{ principal, scopes, keys }] = rows as [Partial<Identity> & { keys: boolean }]
    if (principal && scopes) return { principal, scopes }
    return key || keys ? null : 'anonymous'
  }
}
