// The protocol between the bench, the process that enqueues jobs, and the worker. It measures pickup latency.
import { setTimeout as delay } from 'node:timers/promises'
import { now } from '../core/clock.ts'
import { ready } from '../core/module.ts'

/** The time at which something happened to a job, as a value of `now` in clock.ts. */
export interface Mark {
  sequence: number
  at: number
}

/** An enqueue: it started at `from`, and the reply to its commit arrived at `at`. */
export interface Enqueued extends Mark {
  from: number
}

export interface Enqueue {
  /** The sequence number of the first job. */
  first: number
  jobs: number
  intervalMs: number
}

/** Reports to the bench that a handler has started. Call this in the handler. */
export function reportStarted(sequence: number): void {
  process.send?.({ sequence, at: now() } satisfies Mark)
}

/**
 * At fixed times, enqueues the jobs that the bench asks for, even if earlier enqueues have not committed.
 *
 * @param enqueue resolves after the commit
 */
export function serveEnqueuer(enqueue: (sequence: number) => Promise<void>): void {
  process.on('message', async ({ first, jobs, intervalMs }: Enqueue) => {
    const begin = now()
    const commits: Promise<Enqueued>[] = []
    for (let index = 0; index < jobs; index++) {
      const wait = begin + index * intervalMs - now()
      if (wait > 0) await delay(wait)
      const sequence = first + index
      const from = now()
      commits.push(enqueue(sequence).then(() => ({ sequence, from, at: now() })))
    }
    process.send?.(await Promise.all(commits))
  })
  ready()
}
