import { type Kysely, type RawBuilder, sql } from 'kysely'
import type { Tables } from '../db/tables.ts'
import { dutyCyclePause } from '../primitives/periodic.ts'
import type { BegunJob } from './begun-job.ts'
import { type ClaimedRow, claimedColumns } from './claim.ts'

/** Claims that scan the whole queue take at most this share of the time. */
const maxFullScanShare = 0.05
/** The longest pause between full scans, in milliseconds. Deferred jobs that become due may wait for the next one. */
const maxPauseMs = 30_000
/** A claim in turn that reads more index entries per job than this has read entries of jobs that were claimed earlier. */
const maxEntriesPerJob = 10
/** Up to this number of index entries, a claim in turn is fast anyway. */
const fewEntries = 1_000
/** After a claim in turn that found one principal, this many claims take the oldest jobs, which costs less. */
const claimsBetweenTurns = 3
/** Another program may have inserted a row without the id of a job. */
const uuidPattern = sql.lit('^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$')
/** How far before the floor each claim starts. A slow transaction may commit a job after a newer job was claimed. */
const overlap = sql`interval '250 ms'`

export interface CursorRow extends ClaimedRow {
  waitedSeconds: number
  /** Null if the claim does not begin jobs, or has not begun this job. */
  begun: BegunJob | null
}

interface ScannedRow extends CursorRow {
  /** Creation time of the oldest job of the same claim. */
  floor: string
}

interface TurnRow extends CursorRow {
  /** The priority of the jobs of the last turn. */
  priority: number
  /** The last principal whose turn it was. */
  principal: string
  /** Number of principals in the last turn. */
  turnSize: number
  /** Number of index entries that the claim has read. */
  readEntries: number
}

/**
 * Claims the due jobs of one queue.
 *
 * While there are at most as many jobs as a claim takes, it takes the oldest ones. Most of these claims skip the oldest
 * jobs of the queue: they start at the floor, the creation time of the oldest job of the previous claim. A claim that
 * starts at the beginning of the queue is a full scan. It is slow while a transaction holds an old snapshot: the index
 * then keeps an entry for every row that was claimed since, and the full scan reads all of these entries. Until it ends,
 * no other job of the queue is claimed. So the pause after a full scan is nineteen times as long as the scan, but at most
 * {@link maxPauseMs}.
 *
 * When a claim was full, more jobs may wait. Then the principals of these jobs take turns. Such a claim has no floor, so
 * it counts as a full scan if it has read the entries of many jobs that were claimed earlier. If it finds the jobs of
 * only one principal, some claims take the oldest jobs before the next one looks for others.
 */
export class ClaimCursor {
  readonly #db: Kysely<Tables>
  readonly #queue: string
  readonly #isFair: boolean
  readonly #beginsFor: string | undefined
  /** The creation time of the oldest job of the previous claim. The next claim starts there. */
  #floor: string | undefined
  #nextFullScanAt = Number.NEGATIVE_INFINITY
  /** How long the last full scan took, in milliseconds. */
  #fullScanMs = Number.POSITIVE_INFINITY
  #nextTurnAt = Number.NEGATIVE_INFINITY
  /** Number of claims until the next one in turn. */
  #claimsUntilTurn = 0
  #lastTurn: Pick<TurnRow, 'priority' | 'principal'> | undefined
  #wasFull = false

  /** @param options.beginsFor the id of the worker for which each claim also sets its jobs to running, if it does */
  constructor(
    db: Kysely<Tables>,
    queue: string,
    { isFair, beginsFor }: { isFair: boolean; beginsFor: string | undefined },
  ) {
    this.#db = db
    this.#queue = queue
    this.#isFair = isFair
    this.#beginsFor = beginsFor
  }

  /**
   * @param limit maximum number of jobs
   * @param onMore called if this claim may have skipped due jobs, as soon as a full scan is allowed
   */
  async claim(limit: number, onMore?: () => void): Promise<CursorRow[]> {
    const isInTurn = this.#isFair && this.#wasFull && performance.now() >= this.#nextTurnAt && !this.#skipTurn()
    const rows = isInTurn ? await this.#claimInTurn(limit) : await this.#claimOldest(limit, onMore)
    this.#wasFull = rows.length === limit
    return rows
  }

  /** Makes the next claim a full scan. */
  rescan(): void {
    this.#nextFullScanAt = Number.NEGATIVE_INFINITY
  }

  /** Returns whether the next claim takes the oldest jobs, because the last turn had only one principal. */
  #skipTurn(): boolean {
    if (this.#claimsUntilTurn === 0) return false
    this.#claimsUntilTurn -= 1
    return true
  }

  async #claimInTurn(limit: number): Promise<CursorRow[]> {
    const startedAt = performance.now()
    const rows = await this.#run<TurnRow>(sql`
      select ${claimedColumns}, waited_seconds as "waitedSeconds", turn_priority as priority,
        turn_principal as principal, turn_size as "turnSize", read_entries::float8 as "readEntries"
      from accepted.claim_in_turn(
        ${this.#queue}, ${limit}, ${this.#lastTurn?.priority ?? null}, ${this.#lastTurn?.principal ?? null})`)
    const last = rows.at(-1)
    if (!last) return rows
    this.#claimsUntilTurn = isAlone(rows, this.#lastTurn?.principal) ? claimsBetweenTurns : 0
    this.#lastTurn = last
    if (last.readEntries > fewEntries + maxEntriesPerJob * limit) {
      this.#pauseFullScans(startedAt)
      this.#nextTurnAt = this.#nextFullScanAt
    }
    return rows
  }

  async #claimOldest(limit: number, onMore?: () => void): Promise<CursorRow[]> {
    const startedAt = performance.now()
    const from = startedAt < this.#nextFullScanAt ? this.#floor : undefined
    const rows = await this.#run<ScannedRow>(sql`
      select ${claimedColumns}, waited_seconds as "waitedSeconds", floor
      from accepted.claim(${this.#queue}, ${limit}, coalesce(${from ?? null}::timestamptz - ${overlap}, '-infinity'))`)
    if (from === undefined) this.#pauseFullScans(startedAt)
    this.#floor = rows[0]?.floor ?? from
    // The previous claim was full. If its jobs had a higher priority, older jobs with a lower priority may be left.
    if (onMore && this.#wasFull && rows.length < limit && from !== undefined) this.#callAtNextFullScan(onMore)
    return rows
  }

  /** Runs a statement that claims jobs, and sets the jobs to running in the same transaction if that is wanted. */
  async #run<Row extends CursorRow>(claim: RawBuilder<unknown>): Promise<Row[]> {
    const statement = this.#beginsFor
      ? sql<Row>`
        with claimed as materialized (select claimed.*, row_number() over () as place from (${claim}) claimed),
        begun as materialized (
          select begun.id, to_json(begun) as row from accepted.begin_claimed(
            ${this.#queue},
            (
              select jsonb_object_agg(data ->> 'job', "retryCount" + 1) from claimed
              where data ->> 'job' ~* ${uuidPattern}
            ),
            ${this.#beginsFor}
          ) begun
        )
        select claimed.*, begun.row as begun
        from claimed left join begun on begun.id::text = claimed.data ->> 'job'
        order by place`
      : sql<Row>`select claimed.*, null as begun from (${claim}) claimed`
    return (await statement.execute(this.#db)).rows
  }

  /** Allows the next full scan after a pause. */
  #pauseFullScans(startedAt: number): void {
    const endedAt = performance.now()
    const durationMs = endedAt - startedAt
    // A single slow scan may only have waited, for a connection or for the network.
    const shorterMs = Math.min(durationMs, this.#fullScanMs)
    this.#fullScanMs = durationMs
    this.#nextFullScanAt = endedAt + dutyCyclePause(shorterMs, maxFullScanShare, maxPauseMs)
  }

  #callAtNextFullScan(onMore: () => void): void {
    // A timer may fire up to a millisecond early.
    setTimeout(onMore, Math.max(0, Math.ceil(this.#nextFullScanAt - performance.now())) + 1).unref()
  }
}

/**
 * Returns whether a claim shows that only one principal has due jobs. A claim of one job shows it if the principal has
 * its turn twice in a row.
 */
const isAlone = (rows: readonly TurnRow[], previous: string | undefined): boolean =>
  rows.every(({ turnSize, principal }) => turnSize === 1 && principal === rows[0]?.principal) &&
  (rows.length > 1 || rows[0]?.principal === previous)
