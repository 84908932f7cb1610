import { randomBytes } from 'node:crypto'
import { type Kysely, sql } from 'kysely'
import type { Tables } from '../../db/tables.ts'
import { hashSecret, isValidKey } from '../../jobs/api-key.ts'

/** A session ends after this time, or earlier with its key. */
export const sessionSeconds = 12 * 60 * 60
const maxDeletedSessions = 100
/** 32 bytes in base64url. */
const tokenPattern = /^[\w-]{43}$/

/**
 * Starts a session of an API key. The cookie of the browser has a random token, and the table has only its hash, so a
 * session cannot be continued with what the table has. Also deletes some expired sessions.
 *
 * @returns the token, or undefined if the key has just become invalid
 */
export async function createSession(db: Kysely<Tables>, keyId: string): Promise<string | undefined> {
  const token = randomBytes(32).toString('base64url')
  const { rows } = await sql`
    with expired as (
      delete from accepted.console_session where hash = any(array(
        select hash from accepted.console_session where expires_at < now() order by expires_at limit ${maxDeletedSessions}
      ))
    )
    insert into accepted.console_session (hash, key_id, expires_at)
    select ${hashSecret(token)}, id, now() + make_interval(secs => ${sessionSeconds})
    from accepted.api_key where id = ${keyId} and ${isValidKey}
    returning 1`.execute(db)
  return rows.length > 0 ? token : undefined
}

/** What the key of a session permits. */
export interface SessionIdentity {
  principal: string
  scopes: string[]
  operations: string[] | undefined
  keyId: string
}

/** Finds a session. Its key is checked again, so that the session ends when the key is revoked or expires. */
export async function findSession(db: Kysely<Tables>, token: string): Promise<SessionIdentity | undefined> {
  if (!tokenPattern.test(token)) return undefined
  const { rows } = await sql<{ principal: string; scopes: string[]; operations: string[] | null; key_id: string }>`
    select principal, scopes, operations, api_key.id as key_id
    from accepted.console_session session join accepted.api_key on api_key.id = session.key_id
    where session.hash = ${hashSecret(token)} and session.expires_at > now() and ${isValidKey}`.execute(db)
  const [row] = rows
  return row && { ...row, operations: row.operations ?? undefined, keyId: row.key_id }
}

/** Ends a session. */
export async function deleteSession(db: Kysely<Tables>, token: string): Promise<void> {
  await sql`delete from accepted.console_session where hash = ${hashSecret(token)}`.execute(db)
}
