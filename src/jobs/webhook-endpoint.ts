import { randomBytes } from 'node:crypto'
import { type Kysely, sql } from 'kysely'
import Type, { type Static } from 'typebox'
import type { Tables } from '../db/tables.ts'
import type { AnyTransaction, Operation } from '../operation.ts'
import { uuid7 } from '../primitives/uuid.ts'

/** The events that an endpoint can receive. */
export const eventTypes = ['job.succeeded', 'job.failed', 'job.canceled'] as const

export type EventType = (typeof eventTypes)[number]

const maxUrlLength = 2_000

/** The request body that registers an endpoint. */
export const NewEndpoint = Type.Object(
  {
    url: Type.String({
      maxLength: maxUrlLength,
      description: 'The http or https URL that deliveries are posted to; it must not contain credentials or a fragment',
    }),
    eventTypes: Type.Optional(
      Type.Array(Type.Enum([...eventTypes]), { minItems: 1, uniqueItems: true, description: 'Default: all' }),
    ),
    operations: Type.Optional(
      Type.Array(Type.String(), { minItems: 1, uniqueItems: true, description: 'Default: all' }),
    ),
  },
  { additionalProperties: false, title: 'NewWebhookEndpoint' },
)

export type NewEndpoint = Static<typeof NewEndpoint>

/** A registered endpoint, without its secrets. */
export const Endpoint = Type.Object(
  {
    id: Type.String({ format: 'uuid', description: 'UUIDv7' }),
    url: Type.String({ format: 'uri' }),
    eventTypes: Type.Array(Type.Enum([...eventTypes])),
    operations: Type.Optional(Type.Array(Type.String(), { description: 'Absent: all' })),
    createdAt: Type.String({ format: 'date-time' }),
    disabledAt: Type.Optional(Type.String({ format: 'date-time', description: 'Nothing is delivered from then on' })),
    disabledReason: Type.Optional(Type.String()),
  },
  { title: 'WebhookEndpoint' },
)

export type Endpoint = Static<typeof Endpoint>

/** An endpoint with its newest secret. A secret is shown only once, when it is created. */
export const EndpointWithSecret = Type.Object(
  {
    ...Endpoint.properties,
    secret: Type.String({ description: 'Verifies signatures (Standard Webhooks); shown only once' }),
  },
  { title: 'WebhookEndpointWithSecret' },
)

export type EndpointWithSecret = Static<typeof EndpointWithSecret>

/** Why an endpoint cannot be registered although it matches {@link NewEndpoint}. */
export interface EndpointViolation {
  /** JSON pointer (RFC 6901) to the member. */
  pointer: string
  keyword: 'format' | 'enum'
  message: string
}

/**
 * Checks what the schema {@link NewEndpoint} cannot check: the URL and the names of the operations.
 *
 * @returns the first violation; undefined when the endpoint can be registered
 */
export function findEndpointViolation(
  { url, operations = [] }: NewEndpoint,
  definedOperations: ReadonlyMap<string, Operation>,
): EndpointViolation | undefined {
  const urlViolation = URL.canParse(url) ? findUrlViolation(new URL(url)) : 'must be an absolute URL'
  if (urlViolation) return { pointer: '/url', keyword: 'format', message: urlViolation }
  const index = operations.findIndex((name) => !definedOperations.has(name))
  if (index === -1) return undefined
  return {
    pointer: `/operations/${index}`,
    keyword: 'enum',
    message: `must be the name of an operation, not ${operations[index]}`,
  }
}

function findUrlViolation({ protocol, username, password, href }: URL): string | undefined {
  if (protocol !== 'http:' && protocol !== 'https:') return 'must be http or https'
  if (username || password) return 'must not contain credentials'
  // The `hash` of a URL does not show an empty fragment.
  if (href.includes('#')) return 'must not contain a fragment'
  if (href.length > maxUrlLength) return `must not have more than ${maxUrlLength} characters`
  return undefined
}

// The format of Standard Webhooks: this prefix, then 24 to 64 bytes in base64.
const newSecret = () => `whsec_${randomBytes(32).toString('base64')}`

// Without the secrets, which the API may write, but not read.
const columns = sql`id, url, event_types, operations, created_at, disabled_at, disabled_reason`

type Row = Pick<Tables['accepted.webhook_endpoint'], 'id' | 'url' | 'operations' | 'disabled_reason'> & {
  event_types: EventType[]
  created_at: Date
  disabled_at: Date | null
}

/**
 * Registers an endpoint. Check it with {@link findEndpointViolation} first.
 *
 * @returns the endpoint with its secret, which cannot be read again
 */
export async function createEndpoint(trx: AnyTransaction, endpoint: NewEndpoint): Promise<EndpointWithSecret> {
  const secret = newSecret()
  const { rows } = await sql<Row>`
    insert into accepted.webhook_endpoint (id, url, event_types, operations, secrets)
    values (
      ${uuid7()}, ${new URL(endpoint.url).href}, ${endpoint.eventTypes ?? eventTypes}::text[],
      ${endpoint.operations ?? null}::text[], ${[secret]}::text[]
    )
    returning ${columns}`.execute(trx)
  return { ...toEndpoint(rows[0] as Row), secret }
}

/** Lists every endpoint, oldest first, without secrets. */
export async function listEndpoints(db: Kysely<Tables>): Promise<Endpoint[]> {
  const { rows } = await sql<Row>`select ${columns} from accepted.webhook_endpoint order by id`.execute(db)
  return rows.map(toEndpoint)
}

/** Returns whether an endpoint with this id is registered. The endpoint may be disabled. */
export async function endpointExists(db: Kysely<Tables>, id: string): Promise<boolean> {
  const { rows } = await sql`select from accepted.webhook_endpoint where id::text = ${id.toLowerCase()}`.execute(db)
  return rows.length > 0
}

/**
 * Gives an endpoint a new secret. For 24 hours, deliveries are also signed with the previous secret.
 *
 * @returns undefined when there is no endpoint with this id
 */
export async function rotateSecret(trx: AnyTransaction, id: string): Promise<EndpointWithSecret | undefined> {
  const { rows } = await sql<Row>`
    select ${columns} from accepted.webhook_endpoint where id::text = ${id.toLowerCase()}`.execute(trx)
  const [row] = rows
  if (!row) return undefined
  const secret = newSecret()
  const rotation = sql<{ found: boolean }>`select accepted.rotate_webhook_secret(${row.id}, ${secret}) as found`
  const { rows: rotated } = await rotation.execute(trx)
  return rotated[0]?.found ? { ...toEndpoint(row), secret } : undefined
}

/**
 * Removes an endpoint. Its pending deliveries fail.
 *
 * @returns whether the endpoint was registered
 */
export async function removeEndpoint(trx: AnyTransaction, id: string): Promise<boolean> {
  const { numAffectedRows } = await sql`
    delete from accepted.webhook_endpoint where id::text = ${id.toLowerCase()}`.execute(trx)
  return Number(numAffectedRows) > 0
}

/** Disables an endpoint. Its pending deliveries fail. */
export async function disableEndpoint(trx: AnyTransaction, id: string, reason: string): Promise<void> {
  await sql`
    update accepted.webhook_endpoint set disabled_at = now(), disabled_reason = ${reason}
    where id = ${id} and disabled_at is null`.execute(trx)
}

/** The URL and the signing secrets of a delivery. */
export interface DeliveryTarget {
  url: string
  disabled: boolean
  /** The signing secrets, newest first. For 24 hours after a rotation, they include the previous secret. */
  secrets: string[]
}

/** Reads an endpoint for a delivery. Returns undefined when the endpoint has been removed. */
export async function findDeliveryTarget(db: Kysely<Tables>, id: string): Promise<DeliveryTarget | undefined> {
  const { rows } = await sql<DeliveryTarget>`
    select url, disabled_at is not null as disabled,
      case when secret_rotated_at > now() - interval '1 day' then secrets else secrets[1:1] end as secrets
    from accepted.webhook_endpoint where id = ${id}`.execute(db)
  return rows[0]
}

const toEndpoint = (row: Row): Endpoint => ({
  id: row.id,
  url: row.url,
  eventTypes: row.event_types,
  ...(row.operations && { operations: row.operations }),
  createdAt: row.created_at.toISOString(),
  ...(row.disabled_at && { disabledAt: row.disabled_at.toISOString() }),
  ...(row.disabled_reason && { disabledReason: row.disabled_reason }),
})
