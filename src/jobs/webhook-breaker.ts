import { type Kysely, sql } from 'kysely'
import type { Tables } from '../db/tables.ts'

/** After so many failed deliveries in a row, the breaker of an endpoint opens. */
const maxFailures = 5
/** The pause before the first probe. Each probe that fails doubles it. */
const firstPauseSeconds = 5
const maxPauseSeconds = 300

const failures = sql`consecutive_failures
  + case when opened_at is null and last_failed_delivery = delivery.id then 0 else 1 end`

const isOpen = sql`${failures} >= ${sql.lit(maxFailures)}`

/**
 * Counts a failed attempt. A closed breaker counts each delivery once, so that one delivery that an endpoint always
 * refuses does not open it. An open breaker ignores attempts that had started before it opened.
 *
 * @param startedAt when the attempt started, by the clock of the database
 * @returns the pause before the next delivery is tried, in seconds; undefined while the breaker is closed
 */
export async function countFailure(
  db: Kysely<Tables>,
  endpointId: string,
  delivery: { id: string; startedAt: string },
): Promise<number | undefined> {
  const { rows } = await sql<{ pause: number | null }>`
    update accepted.webhook_endpoint endpoint set
      consecutive_failures = ${failures}, last_failed_delivery = delivery.id,
      opened_at = case when ${isOpen} then coalesce(opened_at, now()) end,
      probe_at = case when ${isOpen} then now() + make_interval(secs =>
        least(${sql.lit(firstPauseSeconds)} * 2.0 ^ least(${failures} - ${sql.lit(maxFailures)}, 20),
          ${sql.lit(maxPauseSeconds)})) end
    from (select ${delivery.id}::uuid as id, ${delivery.startedAt}::timestamptz as started_at) delivery
    where endpoint.id = ${endpointId} and (opened_at is null or opened_at <= delivery.started_at)
    returning extract(epoch from probe_at - now())::float8 as pause`.execute(db)
  return rows[0]?.pause ?? undefined
}

/**
 * Closes the breaker of an endpoint, because a delivery has succeeded.
 *
 * @returns whether it was open
 */
export async function closeBreaker(db: Kysely<Tables>, endpointId: string): Promise<boolean> {
  const { rows } = await sql<{ was_open: boolean }>`
    with previous as (select id, opened_at is not null as was_open from accepted.webhook_endpoint where id = ${endpointId})
    update accepted.webhook_endpoint endpoint set
      consecutive_failures = 0, last_failed_delivery = null, opened_at = null, probe_at = null
    from previous where endpoint.id = previous.id and consecutive_failures > 0
    returning was_open`.execute(db)
  return rows[0]?.was_open ?? false
}
