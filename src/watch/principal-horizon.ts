interface Horizons {
  /** Every change before this time has been delivered. */
  delivered?: Date | undefined
  /** The horizon that the last poll read. A later poll sees everything before it. */
  read?: Date | undefined
}

/** Tracks how far back the next poll must read the changes of the watched principals. */
export class PrincipalHorizon {
  // reset() replaces this object. A poll that is in progress then updates the old one, which has no effect.
  #horizons: Horizons = {}
  #requested: Date | undefined

  /** Every change before this time has been delivered. Undefined when that is unknown. */
  get delivered(): Date | undefined {
    return this.#horizons.delivered && earlier(this.#requested, this.#horizons.delivered)
  }

  /** Makes the next poll read back to a time, or further. */
  request(since: Date): void {
    this.#requested = earlier(this.#requested, since)
  }

  /** Forgets everything. Otherwise a watch that starts later would get all changes since the last watch stopped. */
  reset(): void {
    this.#horizons = {}
    this.#requested = undefined
  }

  /**
   * Starts a poll.
   *
   * @returns `since`: how far back to read; `complete`: takes the horizon that was read, after the changes were
   *   delivered
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
