import { createHash, randomBytes } from 'node:crypto'
import { type Kysely, type RawBuilder, sql } from 'kysely'
import Type, { type Static } from 'typebox'
import { validate as isUuid } from 'uuid'
import type { Tables } from '../db/tables.ts'
import type { AnyTransaction } from '../operation.ts'
import { problemOfPrincipal } from '../primitives/principal.ts'
import { uuid7 } from '../primitives/uuid.ts'
import { defaultScopes, type Scope, scopes } from '../scopes.ts'

const Scopes = Type.Array(Type.Enum([...scopes]), { minItems: 1, uniqueItems: true })
const Operations = Type.Array(Type.String(), { minItems: 1, uniqueItems: true })

export const maxNameLength = 200
export const maxLifetimeSeconds = 10 * 365 * 86_400
/** A condition on a row of `accepted.api_key`: the key is accepted. */
export const isValidKey: RawBuilder<boolean> = sql`
  (api_key.revoked_at is null and (api_key.expires_at is null or api_key.expires_at > now()))`

/** After a rotation, the old key is accepted for this long. */
const overlap = sql`interval '1 day'`

/** The request body that creates a key. */
export const NewApiKey = Type.Object(
  {
    name: Type.String({ minLength: 1, maxLength: maxNameLength, pattern: '\\S', description: 'What the key is for' }),
    principal: Type.Optional(
      Type.String({ description: 'The principal of requests with the key. Default: the name of the key' }),
    ),
    scopes: Type.Optional({ ...Scopes, description: `Default: ${defaultScopes.join(', ')}` }),
    operations: Type.Optional({ ...Operations, description: 'The key permits only these operations. Default: all' }),
    expiresInSeconds: Type.Optional(
      Type.Integer({ minimum: 1, maximum: maxLifetimeSeconds, description: 'Default: the key does not expire' }),
    ),
  },
  { additionalProperties: false, title: 'NewApiKey' },
)

export type NewApiKey = Static<typeof NewApiKey>

/** A key without its secret. */
export const ApiKey = Type.Object(
  {
    id: Type.String({ format: 'uuid', description: 'UUIDv7' }),
    name: Type.String(),
    principal: Type.String(),
    scopes: Scopes,
    operations: Type.Optional({ ...Operations, description: 'Absent: all' }),
    prefix: Type.String({ description: 'The first characters of the key' }),
    status: Type.Enum(['valid', 'expired', 'revoked']),
    createdAt: Type.String({ format: 'date-time' }),
    expiresAt: Type.Optional(Type.String({ format: 'date-time' })),
    lastUsedAt: Type.Optional(Type.String({ format: 'date-time', description: 'Exact to about a minute' })),
    revokedAt: Type.Optional(Type.String({ format: 'date-time' })),
    rotatedFrom: Type.Optional(Type.String({ format: 'uuid', description: 'The key that this key replaces' })),
  },
  { title: 'ApiKey' },
)

export type ApiKey = Static<typeof ApiKey>

/** A new key. Its secret cannot be read again. */
export const ApiKeyWithSecret = Type.Object(
  {
    ...ApiKey.properties,
    key: Type.String({ description: 'Send it as `Authorization: Bearer <key>`; shown only once' }),
  },
  { title: 'ApiKeyWithSecret' },
)

export type ApiKeyWithSecret = Static<typeof ApiKeyWithSecret>

/** Hashes a key or a token for storage. A fast hash without salt is enough, because each has 256 random bits. */
export const hashSecret = (secret: string): Buffer => createHash('sha256').update(secret).digest()

/** People recognize a key by these characters. The others are too many to guess. */
const prefixLength = 'accepted_'.length + 6

// The prefix lets secret scanners recognize a leaked key.
const newKey = () => `accepted_${randomBytes(32).toString('base64url')}`

/** Why a key cannot be created although it matches {@link NewApiKey}. */
export interface ApiKeyViolation {
  /** JSON pointer (RFC 6901) to the member. */
  pointer: string
  message: string
}

/** Checks what the schema {@link NewApiKey} cannot check. Returns the first violation. */
export function findKeyViolation(
  { name, principal = name, operations = [] }: NewApiKey,
  definedOperations: Pick<ReadonlySet<string>, 'has'>,
): ApiKeyViolation | undefined {
  const problem = problemOfPrincipal(principal)
  if (problem) return { pointer: '/principal', message: problem }
  const index = operations.findIndex((operation) => !definedOperations.has(operation))
  if (index === -1) return undefined
  return { pointer: `/operations/${index}`, message: `must be the name of an operation, not ${operations[index]}` }
}

interface Row {
  id: string
  name: string
  principal: string
  scopes: Scope[]
  operations: string[] | null
  prefix: string
  status: ApiKey['status']
  created_at: Date
  expires_at: Date | null
  last_used_at: Date | null
  revoked_at: Date | null
  rotated_from: string | null
}

const columns = sql`
  id, name, principal, scopes, operations, prefix, created_at, expires_at, last_used_at, revoked_at, rotated_from,
  case when revoked_at is not null then 'revoked' when expires_at <= now() then 'expired' else 'valid' end as status`

/** Creates a key. Check it with {@link findKeyViolation} first. */
export async function createKey(trx: AnyTransaction, key: NewApiKey): Promise<ApiKeyWithSecret> {
  const secret = newKey()
  const { name, principal = name, scopes = defaultScopes, operations = null, expiresInSeconds = null } = key
  const { rows } = await sql<Row>`
    insert into accepted.api_key (id, name, principal, scopes, operations, prefix, hash, expires_at)
    values (
      ${uuid7()}, ${name}, ${principal}, ${scopes}::text[], ${operations}::text[], ${secret.slice(0, prefixLength)},
      ${hashSecret(secret)}, now() + make_interval(secs => ${expiresInSeconds}::float8)
    )
    returning ${columns}`.execute(trx)
  return { ...toApiKey(rows[0] as Row), key: secret }
}

/** Lists every key, oldest first. */
export async function listKeys(db: Kysely<Tables>): Promise<ApiKey[]> {
  const { rows } = await sql<Row>`select ${columns} from accepted.api_key order by id`.execute(db)
  return rows.map(toApiKey)
}

/**
 * Replaces a valid key by a new one with the same rights and the same lifetime. The old key is accepted for another day.
 *
 * @returns undefined when there is no valid key with this id, or when it was replaced before
 */
export async function rotateKey(trx: AnyTransaction, id: string): Promise<ApiKeyWithSecret | undefined> {
  if (!isUuid(id)) return undefined
  const secret = newKey()
  const { rows } = await sql<Row>`
    with old as (
      update accepted.api_key set expires_at = least(expires_at, now() + ${overlap})
      where id = ${id} and ${isValidKey}
        -- The lifetime of a key that was replaced is shortened, so it is no longer known.
        and not exists (select from accepted.api_key newer where newer.rotated_from = api_key.id)
      returning *
    )
    insert into accepted.api_key (id, name, principal, scopes, operations, prefix, hash, expires_at, rotated_from)
    select
      ${uuid7()}, old.name, old.principal, old.scopes, old.operations, ${secret.slice(0, prefixLength)},
      ${hashSecret(secret)}, now() + (before.expires_at - before.created_at), old.id
    -- A statement reads the rows as they were before it.
    from old join accepted.api_key before on before.id = old.id
    returning ${columns}`.execute(trx)
  return rows[0] && { ...toApiKey(rows[0]), key: secret }
}

/**
 * Revokes a key.
 *
 * @returns whether there is a key with this id; it may have been revoked before
 */
export async function revokeKey(trx: AnyTransaction, id: string): Promise<boolean> {
  if (!isUuid(id)) return false
  const { numAffectedRows } = await sql`
    update accepted.api_key set revoked_at = coalesce(revoked_at, now()) where id = ${id}`.execute(trx)
  return Number(numAffectedRows) > 0
}

/** Returns whether an API key has ever existed. */
export async function hasHadKeys(db: Kysely<Tables>): Promise<boolean> {
  const { rows } = await sql<{ had: boolean }>`select accepted.has_had_keys() as had`.execute(db)
  return rows[0]?.had === true
}

const toApiKey = (row: Row): ApiKey => ({
  id: row.id,
  name: row.name,
  principal: row.principal,
  scopes: row.scopes,
  ...(row.operations && { operations: row.operations }),
  prefix: row.prefix,
  status: row.status,
  createdAt: row.created_at.toISOString(),
  ...(row.expires_at && { expiresAt: row.expires_at.toISOString() }),
  ...(row.last_used_at && { lastUsedAt: row.last_used_at.toISOString() }),
  ...(row.revoked_at && { revokedAt: row.revoked_at.toISOString() }),
  ...(row.rotated_from && { rotatedFrom: row.rotated_from }),
})
