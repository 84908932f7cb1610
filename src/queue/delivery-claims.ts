import { type Kysely, sql } from 'kysely'
import type { Tables } from '../db/tables.ts'
import { type Claim, type ClaimedRow, claimedColumns, claimOf } from './claim.ts'

/** Maximum number of slots of a worker that the deliveries to one endpoint use. */
const maxSlotsPerEndpoint = 5
/**
 * An endpoint gets at most this share of the free slots, so that endpoints that do not answer leave some to the others:
 * 10 of them hold a third of all slots, 40 of them two thirds.
 */
const maxShareOfFreeSlots = 1 / 20
/** How many deliveries may wait for one endpoint. */
const maxWaitingPerEndpoint = 10_000
const excessIntervalMs = 10_000

type DeliveryRow = ClaimedRow & { waitedSeconds: number }

const endpointOf = ({ payload }: Claim) => (payload as { endpointId?: string } | undefined)?.endpointId ?? ''

/**
 * Claims webhook deliveries in turn over their endpoints. An endpoint whose slots are used, or whose breaker is open, is
 * passed over without reading its deliveries.
 */
export class DeliveryClaims {
  readonly #db: Kysely<Tables>
  #nextExcessAt = Number.NEGATIVE_INFINITY

  constructor(db: Kysely<Tables>) {
    this.#db = db
  }

  /**
   * @param limit number of free slots
   * @param running the claims that this worker holds
   */
  async claim(limit: number, running: Iterable<Claim>): Promise<Claim[]> {
    const excess = await this.#claimExcess(limit)
    if (excess.length === limit) return excess
    const slots = Math.max(1, Math.min(maxSlotsPerEndpoint, Math.floor(limit * maxShareOfFreeSlots)))
    const endpoints = Array.from(running, endpointOf)
    const { rows } = await sql<DeliveryRow>`
      select ${claimedColumns}, waited_seconds as "waitedSeconds"
      from accepted.claim_deliveries(${limit - excess.length}, ${slots}, ${endpoints}::text[])`.execute(this.#db)
    return [...excess, ...rows.map((row) => claimOf(row, row))]
  }

  /** Claims deliveries that the worker fails, because too many wait for their endpoint. */
  async #claimExcess(limit: number): Promise<Claim[]> {
    if (performance.now() < this.#nextExcessAt) return []
    const { rows } = await sql<DeliveryRow>`
      select ${claimedColumns}, waited_seconds as "waitedSeconds"
      from accepted.claim_excess_deliveries(${maxWaitingPerEndpoint}, ${limit})`.execute(this.#db)
    if (rows.length < limit) this.#nextExcessAt = performance.now() + excessIntervalMs
    return rows.map((row) => {
      const claim = claimOf(row, row)
      return { ...claim, payload: { ...(claim.payload as object), isExcess: true } }
    })
  }
}
