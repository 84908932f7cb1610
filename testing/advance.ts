import type { Kysely } from 'kysely'
import type { Clock } from './clock.ts'
import { msUntilDue, shiftTimes } from './shift.ts'

/** What passing time needs. */
export interface Passage {
  db: Kysely<unknown>
  clock: Clock
  /** Runs what is due. */
  run(): Promise<void>
}

/** Makes time pass at once, as if no worker were running. */
export async function skip({ db, clock }: Passage, ms: number): Promise<void> {
  if (ms > 0) await shiftTimes(db, ms)
  clock.advance(ms)
}

/**
 * Makes time pass as if a worker were running: stops at each time at which something becomes due, and runs it. So a retry
 * sets the time of the next retry, and a schedule fires at each of its occurrences.
 */
export async function advance(passage: Passage, ms: number): Promise<void> {
  const { db, clock, run } = passage
  await run()
  for (let remaining = ms; remaining > 0; ) {
    const next = await msUntilDue(db, clock.now())
    const step = Math.min(Math.max(next ?? remaining, 1), remaining)
    await skip(passage, step)
    remaining -= step
    await run()
  }
}
