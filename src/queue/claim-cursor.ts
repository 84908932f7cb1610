import { type Kysely, sql } from 'kysely'
import type { Tables } from '../db/tables.ts'
import { dutyCyclePause } from '../primitives/periodic.ts'
import { type ClaimedRow, claimedColumns } from './claim.ts'

/** Claims that scan the whole queue take at most this share of the time. */
const maxFullScanShare = 0.1
/** How far before the floor each claim starts. A slow transaction may commit a job after a newer job was claimed. */
const overlap = sql`interval '250 ms'`

export interface CursorRow extends ClaimedRow {
  waitedSeconds: number
  /** Creation time of the oldest job of the same claim. */
  floor: string
}

/**
 * Claims the due jobs of one queue. Most claims skip the oldest jobs of the queue: they start at the floor, the
 * creation time of the oldest job of the previous claim. A claim that starts at the beginning of the queue is a full
 * scan. It is slow while a transaction holds an old snapshot: the index then keeps an entry for every row that was
 * claimed since, and the full scan reads all of these entries. Full scans take at most a tenth of the time.
 */
export class ClaimCursor {
  readonly #db: Kysely<Tables>
  readonly #queue: string
  /** The creation time of the oldest job of the previous claim. The next claim starts there. */
  #floor: string | undefined
  #nextFullScanAt = Number.NEGATIVE_INFINITY
  #wasFull = false

  constructor(db: Kysely<Tables>, queue: string) {
    this.#db = db
    this.#queue = queue
  }

  /**
   * @param limit maximum number of jobs
   * @param onMore called if this claim may have skipped due jobs, as soon as a full scan is allowed
   */
  async claim(limit: number, onMore?: () => void): Promise<CursorRow[]> {
    const startedAt = performance.now()
    const from = startedAt < this.#nextFullScanAt ? this.#floor : undefined
    const { rows } = await sql<CursorRow>`
      select ${claimedColumns}, waited_seconds as "waitedSeconds", floor
      from accepted.claim(${this.#queue}, ${limit}, coalesce(${from ?? null}::timestamptz - ${overlap}, '-infinity'))`.execute(
      this.#db,
    )
    const endedAt = performance.now()
    if (from === undefined) this.#nextFullScanAt = endedAt + dutyCyclePause(endedAt - startedAt, maxFullScanShare)
    this.#floor = rows[0]?.floor ?? from
    const isFull = rows.length === limit
    // The previous claim was full. If its jobs had a higher priority, older jobs with a lower priority may be left.
    if (onMore && this.#wasFull && !isFull && from !== undefined) this.#callAtNextFullScan(onMore)
    this.#wasFull = isFull
    return rows
  }

  #callAtNextFullScan(onMore: () => void): void {
    // A timer may fire up to a millisecond early.
    setTimeout(onMore, Math.max(0, Math.ceil(this.#nextFullScanAt - performance.now())) + 1).unref()
  }
}
