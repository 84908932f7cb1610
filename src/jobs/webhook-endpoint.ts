import { randomBytes } from 'node:crypto'
import { type Kysely, sql } from 'kysely'
import Type, { type Static } from 'typebox'
import type { Tables } from '../db/tables.ts'
import type { AnyTransaction, Operation } from '../operation.ts'
import { uuid7 } from '../uuid.ts'

/** What can be told of a job. */
export const eventTypes = ['job.succeeded', 'job.failed', 'job.canceled'] as const

export type EventType = (typeof eventTypes)[number]

const longestUrl = 2_000

/** What registers an endpoint. */
export const NewEndpoint = Type.Object(
  {
    url: Type.String({
      maxLength: longestUrl,
      description: 'http or https, without credentials and fragment; deliveries are posted here',
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

/** Where the end of a job is told to. */
export const Endpoint = Type.Object(
  {
    id: Type.String({ format: 'uuid', description: 'UUIDv7' }),
    url: Type.String({ format: 'uri' }),
    eventTypes: Type.Array(Type.Enum([...eventTypes])),
    operations: Type.Optional(Type.Array(Type.String(), { description: 'Absent: all' })),
    createdAt: Type.String({ format: 'date-time' }),
    disabledAt: Type.Optional(Type.String({ format: 'date-time', description: 'From then on nothing is delivered' })),
    disabledReason: Type.Optional(Type.String()),
  },
  { title: 'WebhookEndpoint' },
)

export type Endpoint = Static<typeof Endpoint>

/** An endpoint with its newest secret, which is shown when it is made and never again. */
export const EndpointWithSecret = Type.Object(
  {
    ...Endpoint.properties,
    secret: Type.String({ description: 'Verifies signatures (Standard Webhooks); shown this once' }),
  },
  { title: 'WebhookEndpointWithSecret' },
)

export type EndpointWithSecret = Static<typeof EndpointWithSecret>

/** Why an endpoint cannot be registered, though its members have the right types. */
export interface EndpointViolation {
  /** RFC 6901. */
  pointer: string
  keyword: 'format' | 'enum'
  message: string
}

/** The first thing that keeps an endpoint from being registered. */
export function findEndpointViolation(
  { url, operations = [] }: NewEndpoint,
  known: ReadonlyMap<string, Operation>,
): EndpointViolation | undefined {
  const wrong = URL.canParse(url) ? wrongWith(new URL(url)) : 'must be an absolute URL'
  if (wrong) return { pointer: '/url', keyword: 'format', message: wrong }
  const index = operations.findIndex((name) => !known.has(name))
  if (index === -1) return undefined
  return {
    pointer: `/operations/${index}`,
    keyword: 'enum',
    message: `must name an operation, not ${operations[index]}`,
  }
}

function wrongWith({ protocol, username, password, href }: URL): string | undefined {
  if (protocol !== 'http:' && protocol !== 'https:') return 'must be http or https'
  if (username || password) return 'must not contain credentials'
  // An empty one is not in `hash`.
  if (href.includes('#')) return 'must not contain a fragment'
  if (href.length > longestUrl) return `must not have more than ${longestUrl} characters`
  return undefined
}

// Standard Webhooks: 24 to 64 bytes, base64, with this prefix.
const newSecret = () => `whsec_${randomBytes(32).toString('base64')}`

type Row = Pick<Tables['accepted.webhook_endpoint'], 'id' | 'url' | 'operations' | 'secrets' | 'disabled_reason'> & {
  event_types: EventType[]
  created_at: Date
  disabled_at: Date | null
}

/**
 * Registers an endpoint. Look with {@link findEndpointViolation} first.
 *
 * @returns with the secret, which nothing else tells
 */
export async function createEndpoint(trx: AnyTransaction, endpoint: NewEndpoint): Promise<EndpointWithSecret> {
  const { rows } = await sql<Row>`
    insert into accepted.webhook_endpoint (id, url, event_types, operations, secrets)
    values (
      ${uuid7()}, ${new URL(endpoint.url).href}, ${endpoint.eventTypes ?? eventTypes}::text[],
      ${endpoint.operations ?? null}::text[], ${[newSecret()]}::text[]
    )
    returning *`.execute(trx)
  return withSecret(rows[0] as Row)
}

/** Every endpoint, in the order of their making, without secrets. */
export async function listEndpoints(db: Kysely<Tables>): Promise<Endpoint[]> {
  const { rows } = await sql<Row>`select * from accepted.webhook_endpoint order by id`.execute(db)
  return rows.map(toEndpoint)
}

/** Whether there is such an endpoint, disabled or not. */
export async function endpointExists(db: Kysely<Tables>, id: string): Promise<boolean> {
  const { rows } = await sql`select from accepted.webhook_endpoint where id::text = ${id.toLowerCase()}`.execute(db)
  return rows.length > 0
}

/**
 * Gives an endpoint a new secret; the one before goes on signing for a day.
 *
 * @returns undefined when there is no such endpoint
 */
export async function rotateSecret(trx: AnyTransaction, id: string): Promise<EndpointWithSecret | undefined> {
  const { rows } = await sql<Row>`
    update accepted.webhook_endpoint set secrets = array[${newSecret()}, secrets[1]], secret_rotated_at = now()
    where id::text = ${id.toLowerCase()} returning *`.execute(trx)
  return rows[0] && withSecret(rows[0])
}

/** Removes an endpoint; what is on its way to it fails. Answers whether there was one. */
export async function removeEndpoint(trx: AnyTransaction, id: string): Promise<boolean> {
  const { numAffectedRows } = await sql`
    delete from accepted.webhook_endpoint where id::text = ${id.toLowerCase()}`.execute(trx)
  return Number(numAffectedRows) > 0
}

/** Delivers nothing more to an endpoint. */
export async function disableEndpoint(trx: AnyTransaction, id: string, reason: string): Promise<void> {
  await sql`
    update accepted.webhook_endpoint set disabled_at = now(), disabled_reason = ${reason}
    where id = ${id} and disabled_at is null`.execute(trx)
}

/** What a delivery needs to know. */
export interface Target {
  url: string
  disabled: boolean
  /** Those that sign now, newest first: the one before the newest does for a day after the rotation. */
  secrets: string[]
}

/** Reads where and how to deliver; undefined when the endpoint has been removed. */
export async function findTarget(db: Kysely<Tables>, id: string): Promise<Target | undefined> {
  const { rows } = await sql<Target>`
    select url, disabled_at is not null as disabled,
      case when secret_rotated_at > now() - interval '1 day' then secrets else secrets[1:1] end as secrets
    from accepted.webhook_endpoint where id = ${id}`.execute(db)
  return rows[0]
}

const withSecret = (row: Row): EndpointWithSecret => ({ ...toEndpoint(row), secret: row.secrets[0] as string })

const toEndpoint = (row: Row): Endpoint => ({
  id: row.id,
  url: row.url,
  eventTypes: row.event_types,
  ...(row.operations && { operations: row.operations }),
  createdAt: row.created_at.toISOString(),
  ...(row.disabled_at && { disabledAt: row.disabled_at.toISOString() }),
  ...(row.disabled_reason && { disabledReason: row.disabled_reason }),
})
