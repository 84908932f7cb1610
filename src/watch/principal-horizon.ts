interface Horizons {
  /** Every change before this time has been delivered. */
  delivered?: Date | undefined
  /** The visibility horizon that the last poll read. After the next poll, every change before it has been delivered. */
  read?: Date | undefined
}

/** Tracks from which time on the next poll must read the changes of the watched principals. */
export class PrincipalHorizon {
  // reset() replaces this object. A poll that is in progress then updates the old object, which has no effect.
  #horizons: Horizons = {}
  #requested: Date | undefined

  /** Every change before this time has been delivered. Undefined if this time is unknown. */
  get delivered(): Date | undefined {
    return this.#horizons.delivered && earlier(this.#requested, this.#horizons.delivered)
  }

  /** The next poll then reads all changes since this time, or since an earlier time that was requested before. */
  request(since: Date): void {
    this.#requested = earlier(this.#requested, since)
  }

  /** Clears all horizons. Otherwise the next watch would get all changes since the last watch stopped. */
  reset(): void {
    this.#horizons = {}
    this.#requested = undefined
  }

  /**
   * Starts a poll.
   *
   * @returns `since`: the poll must read all changes since this time; `complete`: call it after the changes are
   *   delivered, with the visibility horizon that the poll read
   */
  startPoll(): { since: Date | undefined; complete(read: Date): void } {
    const horizons = this.#horizons
    horizons.delivered = earlier(this.#requested, horizons.delivered)
    this.#requested = undefined
    return {
      since: horizons.delivered,
      complete(read) {
        horizons.delivered = horizons.read ?? horizons.delivered
        horizons.read = read
      },
    }
  }
}

const earlier = (one: Date | undefined, other: Date | undefined) => (one && other && other > one ? one : (other ?? one))
