import { type Kysely, sql } from 'kysely'
import type { Tables } from '../db/tables.ts'
import { dutyCyclePause } from '../primitives/periodic.ts'
import type { ClaimedRow } from './claim.ts'

/** Claims that scan the whole queue take at most this share of the time. */
const maxFullScanShare = 0.1
/** Each claim starts this much earlier: a slow transaction may commit a job after a newer job was claimed. */
const overlap = sql`interval '250 ms'`

export interface CursorRow extends ClaimedRow {
  waitedSeconds: number
  /** Creation time of the oldest job in the same claim. */
  floor: string
}

/**
 * Claims the due jobs of one queue. Most claims start where the last one started. While a transaction holds an old
 * snapshot, the index keeps an entry for every row claimed since, and a claim from the start of the queue reads all of
 * them. Such full scans take at most a tenth of the time.
 */
export class ClaimCursor {
  readonly #db: Kysely<Tables>
  readonly #queue: string
  /** Where the next claim starts: the creation time of the oldest job of the last one. */
  #floor: string | undefined
  #nextFullScanAt = Number.NEGATIVE_INFINITY
  #wasFull = false

  constructor(db: Kysely<Tables>, queue: string) {
    this.#db = db
    this.#queue = queue
  }

  /**
   * @param limit maximum number of jobs
   * @param onMore called when the next full scan is allowed, if jobs before the start of this claim may be due
   */
  async claim(limit: number, onMore?: () => void): Promise<CursorRow[]> {
    const startedAt = performance.now()
    const from = startedAt < this.#nextFullScanAt ? this.#floor : undefined
    const { rows } = await sql<CursorRow>`
      select id, retry_count as "retryCount", data, waited_seconds as "waitedSeconds", floor
      from accepted.claim(${this.#queue}, ${limit}, coalesce(${from ?? null}::timestamptz - ${overlap}, '-infinity'))`.execute(
      this.#db,
    )
    const endedAt = performance.now()
    if (from === undefined) this.#nextFullScanAt = endedAt + dutyCyclePause(endedAt - startedAt, maxFullScanShare)
    this.#floor = rows[0]?.floor ?? from
    const isFull = rows.length === limit
    // The last claim was full. Its jobs may have had a higher priority, so older jobs of a lower priority may be left.
    if (onMore && this.#wasFull && !isFull && from !== undefined) this.#callAtNextFullScan(onMore)
    this.#wasFull = isFull
    return rows
  }

  #callAtNextFullScan(onMore: () => void): void {
    // A timer may fire up to a millisecond early.
    setTimeout(onMore, Math.ceil(this.#nextFullScanAt - performance.now()) + 1).unref()
  }
}
