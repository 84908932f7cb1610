import { randomBytes } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import { type Kysely, sql } from 'kysely'
import type { Tables } from '../db/tables.ts'
import { hashSecret, isValidKey } from '../jobs/api-key.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Whether the token of a link to the job authenticates requests. */
    acceptsLink?: boolean
  }
}

/** How long a link can be opened, and how long a stream that it opened lasts. */
const linkSeconds = 300
const maxDeletedLinks = 100

/** The token of a link, in the query, because a browser cannot send a header for a page or an EventSource. */
export const tokenParameter = 'token'

/** The request that creates a link. */
export interface LinkCreator {
  principal: string
  /** The id of the API key, with which the link becomes invalid. */
  keyId: string | undefined
  /** When the credential expires, and the link with it. */
  credentialExpiresAt: Date | undefined
}

/** Creates a link to a job. Only a hash of its token is stored. Also deletes some expired links. */
export async function createLink(
  db: Kysely<Tables>,
  jobId: string,
  { principal, keyId, credentialExpiresAt }: LinkCreator,
): Promise<{ token: string; expiresAt: Date }> {
  const token = randomBytes(32).toString('base64url')
  const { rows } = await sql<{ expires_at: Date }>`
    with expired as (
      delete from accepted.job_link where hash = any(array(
        select hash from accepted.job_link where expires_at < now() order by expires_at limit ${maxDeletedLinks}
      ))
    )
    insert into accepted.job_link (hash, job_id, principal, key_id, expires_at)
    values (
      ${hashSecret(token)}, ${jobId}, ${principal}, ${keyId ?? null},
      least(now() + make_interval(secs => ${linkSeconds}), ${credentialExpiresAt ?? null}::timestamptz)
    )
    returning expires_at`.execute(db)
  return { token, expiresAt: (rows[0] as { expires_at: Date }).expires_at }
}

/** What a link permits: to read one job. */
export interface LinkIdentity {
  /** The principal that created the link. It sees sealed members of its own jobs only. */
  principal: string
  scopes: readonly ['read']
  linkedJobId: string
  keyId: string | undefined
  expiresAt: Date
}

/** Returns the token of the link that a request has used. Undefined if the route or the request uses none. */
export function linkTokenOf({ routeOptions, headers, query }: FastifyRequest): string | undefined {
  if (!routeOptions.config.acceptsLink || headers.authorization !== undefined) return undefined
  const token = [(query as Record<string, unknown>)[tokenParameter]].flat()[0]
  return typeof token === 'string' ? token : undefined
}

/**
 * Finds the job of a link. Returns null if the link has expired, or if the credential that created it is no longer valid.
 *
 * @param usesKeys whether requests are authenticated by API keys: then a link without a key was created by `anonymous`
 */
export async function authenticateByLink(
  db: Kysely<Tables>,
  token: string,
  { usesKeys }: { usesKeys: boolean },
): Promise<LinkIdentity | null> {
  const { rows } = await sql<{ job_id: string; principal: string; key_id: string | null; seconds: number }>`
    select job_id, principal, key_id, extract(epoch from expires_at - now())::float8 as seconds
    from accepted.job_link link
    where hash = ${hashSecret(token)} and expires_at > now() and case
      when key_id is null then not (${usesKeys}::boolean and accepted.has_had_keys())
      else exists (
        select from accepted.api_key where api_key.id = link.key_id and ${isValidKey}
      )
    end`.execute(db)
  const [row] = rows
  if (!row) return null
  return {
    principal: row.principal,
    scopes: ['read'],
    linkedJobId: row.job_id,
    keyId: row.key_id ?? undefined,
    // The clock of this machine may differ from that of Postgres.
    expiresAt: new Date(Date.now() + row.seconds * 1000),
  }
}
