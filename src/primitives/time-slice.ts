import { setImmediate as nextTurn } from 'node:timers/promises'

/** How long work may block the event loop, in milliseconds. */
const maxBusyMs = 10

/** Lets the event loop do other work, if the caller has kept it busy for long. */
export type TimeSlice = () => Promise<void>

/** Divides long work into slices. Call the returned function, and wait for it, between small parts of the work. */
export function createTimeSlice(): TimeSlice {
  let startedAt = performance.now()
  return async () => {
    if (performance.now() - startedAt < maxBusyMs) return
    await nextTurn()
    startedAt = performance.now()
  }
}
