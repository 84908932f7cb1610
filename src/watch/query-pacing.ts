/**
 * The pause after a query, as a multiple of the query's duration. With 4, short queries use a connection for a fifth of
 * the time.
 */
const pauseFactor = 4
const maxQueryPauseMs = 25
/** After idle time, the next pause is shorter by up to this much. A few notifications are then read without a pause. */
const maxPauseCreditMs = 10

/** Adds pauses between queries, so that notifications in quick succession share one query. */
export class QueryPacing {
  #nextAt = Number.NEGATIVE_INFINITY

  /** Milliseconds until the next query may start. */
  get delayMs(): number {
    return Math.max(0, this.#nextAt - performance.now())
  }

  /** Records a query that ends now. */
  queryEnded(startedAt: number): void {
    const endedAt = performance.now()
    const took = endedAt - startedAt
    const pause = Math.min(pauseFactor * took, maxQueryPauseMs)
    this.#nextAt = Math.max(this.#nextAt + took, endedAt - maxPauseCreditMs) + pause
  }
}
