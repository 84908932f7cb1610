/** Changes that wait for a client: of one that takes nothing for so long, in milliseconds, and of one that takes some. */
const mostWaiting = { ofStalled: 2_000, ofSlow: 20_000 }
const stalledAfter = 1_000

/** Whether a client keeps pace with what it is told. Many changes at once are no fault of its own. */
export interface Pace {
  /** It has room for more. */
  keepsUp(): void
  /** Whether it is to be cut off, to come back and begin again: so many changes wait for it. */
  isBehind(waiting: number): boolean
}

/** Begins to look at the pace of a client. */
export function startPace(): Pace {
  let keptUpAt = performance.now()
  return {
    keepsUp() {
      keptUpAt = performance.now()
    },
    isBehind(waiting) {
      if (waiting <= mostWaiting.ofStalled) return false
      return waiting > mostWaiting.ofSlow || performance.now() - keptUpAt > stalledAfter
    },
  }
}
