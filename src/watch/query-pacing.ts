/** The pause after a query, as a multiple of its duration. With 4, quick queries use a fifth of a connection's time. */
const gatherFactor = 4
const maxGatherMs = 25
/** After a quiet time, this much of it counts as pause. The few notifications of a single job then do not wait. */
const maxCreditMs = 10

/** Spaces queries, so that notifications that arrive in quick succession share one. */
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
    const gather = Math.min(gatherFactor * took, maxGatherMs)
    this.#nextAt = Math.max(this.#nextAt + took, endedAt - maxCreditMs) + gather
  }
}
