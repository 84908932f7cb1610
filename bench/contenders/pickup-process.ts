// What the processes do whose pickup is measured.
import { setTimeout as delay } from 'node:timers/promises'
import { now } from '../core/clock.ts'
import { ready } from '../core/module.ts'

/** What happened to a job, and when, by the clock that processes share. */
export interface Mark {
  sequence: number
  at: number
}

/** An enqueue, from when it was begun until its commit was known, by that clock. */
export interface Enqueued extends Mark {
  from: number
}

export interface Enqueue {
  /** Its number; others follow. */
  first: number
  jobs: number
  /** In milliseconds. */
  every: number
}

/** For a handler: tells the bench that it has begun. */
export function tellBegun(sequence: number): void {
  process.send?.({ sequence, at: now() } satisfies Mark)
}

/**
 * Enqueues, in a process of its own, what the bench asks for, whether or not what was enqueued before has committed.
 *
 * @param enqueue resolves after the commit
 */
export function serveEnqueuer(enqueue: (sequence: number) => Promise<void>): void {
  process.on('message', async ({ first, jobs, every }: Enqueue) => {
    const begin = now()
    const commits: Promise<Enqueued>[] = []
    for (let index = 0; index < jobs; index++) {
      const wait = begin + index * every - now()
      if (wait > 0) await delay(wait)
      const sequence = first + index
      const from = now()
      commits.push(enqueue(sequence).then(() => ({ sequence, from, at: now() })))
    }
    process.send?.(await Promise.all(commits))
  })
  ready()
}
