import { sql } from 'kysely'
import type { Database } from '../db/database.ts'
import type { Operation } from '../operation.ts'
import { type Claim, type ClaimedRow, claimOf } from './claim.ts'
import { assignLimitKeys } from './limit-keys.ts'

/** A claimed job. The last row has no id: it says what to do next. */
type LimitedRow =
  | (ClaimedRow & { waitedSeconds: number; key: string })
  | { id: null; nextInSeconds: number | null; lacksKeys: boolean }

/** The shortest pause after a claim without jobs, in milliseconds. Another worker may hold the key that is ready. */
const minPauseMs = 20
/** The longest pause until the next claim, in milliseconds. */
const maxPauseMs = 60_000

/**
 * Claims the jobs of an operation with a limit, through `accepted.claim_limited`. There, the claim of a job is what the
 * limit counts. So a worker that claims nothing uses up nothing, and the running jobs are counted exactly, also when
 * workers die.
 */
export class LimitedClaims {
  readonly #database: Database
  readonly #operation: Operation
  /** The keys of which a job of this worker has ended since the last claim. */
  readonly #freed = new Set<string>()
  #lacksKeys = false
  #timer: NodeJS.Timeout | undefined

  constructor(database: Database, operation: Operation) {
    this.#database = database
    this.#operation = operation
  }

  /**
   * @param limit maximum number of jobs
   * @param onMore called as soon as a job may start
   * @returns undefined when the operation has no limit in the database: an older or a newer definition has removed it
   */
  async claim(limit: number, onMore: () => void = () => {}): Promise<Claim[] | undefined> {
    const assigned = this.#lacksKeys ? await assignLimitKeys(this.#database, this.#operation) : undefined
    const freed = [...this.#freed]
    this.#freed.clear()
    const { rows } = await sql<LimitedRow>`
      select id, retry_count as "retryCount", data, waited_seconds as "waitedSeconds", key,
        next_in_seconds as "nextInSeconds", lacks_keys as "lacksKeys"
      from accepted.claim_limited(${this.#operation.name}, ${limit}, ${freed}::text[])`.execute(this.#database.kysely)
    const next = rows.find(({ id }) => id === null) as Extract<LimitedRow, { id: null }> | undefined
    if (!next) return undefined
    const claims = rows.flatMap((row) =>
      row.id === null ? [] : [claimOf(row, { waitedSeconds: row.waitedSeconds, limitKey: row.key })],
    )
    this.#lacksKeys = next.lacksKeys
    // When no key could be assigned, another transaction holds the jobs, or another worker assigns their keys.
    const isAssigning = next.lacksKeys && assigned !== 0
    this.#callIn(isAssigning ? 0 : next.nextInSeconds, claims.length > 0 ? 0 : minPauseMs, onMore)
    return claims
  }

  /**
   * Remembers for the next claim that jobs have ended. Other workers find out after up to two seconds.
   *
   * @returns whether other jobs may now run
   */
  freePlaces(ended: readonly Claim[]): boolean {
    if (this.#operation.limit?.concurrency === undefined) return false
    for (const { limitKey } of ended) if (limitKey !== undefined) this.#freed.add(limitKey)
    return ended.length > 0
  }

  #callIn(seconds: number | null, minMs: number, onMore: () => void): void {
    clearTimeout(this.#timer)
    if (seconds === null) return
    // A timer may fire up to a millisecond early.
    const pauseMs = Math.min(Math.max(Math.ceil(seconds * 1000) + 1, minMs), maxPauseMs)
    this.#timer = setTimeout(onMore, pauseMs).unref()
  }
}
