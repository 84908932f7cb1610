import { type ChangePosition, earlier } from '../jobs/change-position.ts'

/** Tracks from which position on the next poll must read the changes of the watched principals. */
export class PrincipalPosition {
  // reset() replaces this object. A poll that is in progress then updates the old object, which has no effect.
  #state: { delivered?: ChangePosition | undefined } = {}
  #requested: ChangePosition | undefined

  /** Every change up to this position has been delivered. Undefined if the position is unknown. */
  get delivered(): ChangePosition | undefined {
    return this.#state.delivered && earlier(this.#requested, this.#state.delivered)
  }

  /** Makes the next poll read all changes since the given position, or since an earlier one. */
  request(since: ChangePosition): void {
    this.#requested = earlier(this.#requested, since)
  }

  /** Clears all positions. Otherwise the next watch would get all changes since the last watch stopped. */
  reset(): void {
    this.#state = {}
    this.#requested = undefined
  }

  /**
   * Starts a poll.
   *
   * @returns `since`: the poll must read all changes since this position; `complete`: call it after the changes are
   *   delivered, with the position of the poll
   */
  startPoll(): { since: ChangePosition | undefined; complete(position: ChangePosition): void } {
    const state = this.#state
    state.delivered = earlier(this.#requested, state.delivered)
    this.#requested = undefined
    return {
      since: state.delivered,
      complete(position) {
        state.delivered = position
      },
    }
  }
}
