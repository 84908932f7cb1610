import { type Kysely, sql } from 'kysely'
import type { Tables } from '../db/tables.ts'
import type { AnyTransaction } from '../operation.ts'
import type { KeyRing } from '../primitives/key-ring.ts'
import { uuid7 } from '../primitives/uuid.ts'
import type { Job } from './job.ts'
import { readJob } from './read.ts'
import {
  type Endpoint,
  type EndpointWithSecret,
  type EventType,
  eventTypes,
  type NewEndpoint,
} from './webhook-schema.ts'
import { newSecret, toStoredSecret } from './webhook-secret.ts'

// Without the secrets, which the API may write, but not read.
const columns = sql`id, url, principal, event_types, operations, created_at, disabled_at, disabled_reason,
  opened_at, probe_at`

type Row = Pick<Tables['accepted.webhook_endpoint'], 'id' | 'url' | 'principal' | 'operations' | 'disabled_reason'> & {
  event_types: EventType[]
  created_at: Date
  disabled_at: Date | null
  opened_at: Date | null
  probe_at: Date | null
}

/**
 * Registers an endpoint. Check it with {@link findEndpointViolation} first.
 *
 * @param keys encrypt the secret. Without keys, the table contains it in clear.
 * @returns the endpoint with its secret, which cannot be read again
 */
export async function createEndpoint(
  trx: AnyTransaction,
  endpoint: NewEndpoint,
  keys?: KeyRing,
): Promise<EndpointWithSecret> {
  const secret = newSecret()
  const id = uuid7()
  const { rows } = await sql<Row>`
    insert into accepted.webhook_endpoint (id, url, principal, event_types, operations, secrets)
    values (
      ${id}, ${new URL(endpoint.url).href}, ${endpoint.principal ?? null},
      ${endpoint.eventTypes ?? eventTypes}::text[], ${endpoint.operations ?? null}::text[],
      ${[toStoredSecret(secret, id, keys)]}::text[]
    )
    returning ${columns}`.execute(trx)
  return { ...toEndpoint(rows[0] as Row), secret }
}

/** Lists every endpoint, oldest first, without secrets. */
export async function listEndpoints(db: Kysely<Tables>): Promise<Endpoint[]> {
  const { rows } = await sql<Row>`select ${columns} from accepted.webhook_endpoint order by id`.execute(db)
  return rows.map(toEndpoint)
}

/**
 * Returns whether jobs of a principal are delivered to an endpoint with this id. The endpoint may be disabled. The
 * answer is the same for an endpoint of another principal as for one that does not exist.
 */
export async function mayUseEndpoint(db: Kysely<Tables>, id: string, principal: string): Promise<boolean> {
  const { rows } = await sql`
    select from accepted.webhook_endpoint
    where id::text = ${id.toLowerCase()} and coalesce(principal, ${principal}) = ${principal}`.execute(db)
  return rows.length > 0
}

/**
 * Gives an endpoint a new secret. For 24 hours, deliveries are also signed with the previous secret.
 *
 * @param keys encrypt the new secret
 * @returns undefined when there is no endpoint with this id
 */
export async function rotateSecret(
  trx: AnyTransaction,
  id: string,
  keys?: KeyRing,
): Promise<EndpointWithSecret | undefined> {
  const { rows } = await sql<Row>`
    select ${columns} from accepted.webhook_endpoint where id::text = ${id.toLowerCase()}`.execute(trx)
  const [row] = rows
  if (!row) return undefined
  const secret = newSecret()
  const stored = toStoredSecret(secret, row.id, keys)
  const rotation = sql<{ found: boolean }>`select accepted.rotate_webhook_secret(${row.id}, ${stored}) as found`
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
  /**
   * The signing secrets as they are stored, newest first. For 24 hours after a rotation, they include the previous
   * secret.
   */
  secrets: string[]
  /** Whether the last delivery has failed. */
  isFailing: boolean
  /** The time of this read, by the clock of the database. */
  readAt: string
}

/** Reads an endpoint for a delivery. Returns undefined when the endpoint has been removed. */
export async function findDeliveryTarget(db: Kysely<Tables>, id: string): Promise<DeliveryTarget | undefined> {
  const { rows } = await sql<DeliveryTarget>`
    select url, disabled_at is not null as disabled,
      case when secret_rotated_at > now() - interval '1 day' then secrets else secrets[1:1] end as secrets,
      consecutive_failures > 0 as "isFailing", now()::text as "readAt"
    from accepted.webhook_endpoint where id = ${id}`.execute(db)
  return rows[0]
}

/**
 * Enqueues a delivery that a person asks for: of the outcome of a job, or of a test event.
 *
 * @throws DatabaseError P0002 if there is no such endpoint or job, 55000 if the job has not ended
 */
export async function enqueueDelivery(trx: Kysely<Tables>, endpointId: string, jobId: string | null): Promise<Job> {
  const { rows } = await sql<{ id: string }>`
    select accepted.deliver_webhook(${endpointId}::uuid, ${jobId}::uuid) as id`.execute(trx)
  return (await readJob(trx, rows[0]?.id as string)) as Job
}

const toEndpoint = (row: Row): Endpoint => ({
  id: row.id,
  url: row.url,
  ...(row.principal !== null && { principal: row.principal }),
  eventTypes: row.event_types,
  ...(row.operations && { operations: row.operations }),
  createdAt: row.created_at.toISOString(),
  ...(row.disabled_at && { disabledAt: row.disabled_at.toISOString() }),
  ...(row.disabled_reason && { disabledReason: row.disabled_reason }),
  ...(row.opened_at && { failingSince: row.opened_at.toISOString() }),
  ...(row.probe_at && { nextAttemptAt: row.probe_at.toISOString() }),
})

/** Returns whether an endpoint that is not disabled is on another machine, as far as its URL says. */
export async function hasRemoteEndpoint(db: Kysely<Tables>): Promise<boolean> {
  const { rows } = await sql`
    select from accepted.webhook_endpoint
    where disabled_at is null and url !~* '^https?://(localhost|[^/:]*[.]localhost|127[.][0-9.]+|\\[::1\\])(:|/|$)'
    limit 1`.execute(db)
  return rows.length > 0
}
