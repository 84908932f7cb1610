import { setImmediate as nextTurn } from 'node:timers/promises'

/** How long work may block the event loop, in milliseconds. */
const maxBusyMs = 10

/** Lets the event loop do other work, if the caller has kept it busy for long. If not, there is no promise to wait for. */
export type TimeSlice = () => Promise<void> | undefined

/** Divides long work into slices. Call the returned function, and wait for it, between small parts of the work. */
export function createTimeSlice(): TimeSlice {
  let startedAt = performance.now()
  const endSlice = async () => {
    await nextTurn()
    startedAt = performance.now()
  }
  return () => (performance.now() - startedAt < maxBusyMs ? undefined : endSlice())
}
