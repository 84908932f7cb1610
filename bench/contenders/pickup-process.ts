// The protocol between the bench, the process that enqueues jobs and the worker, to measure pickup latency.
import { setTimeout as delay } from 'node:timers/promises'
import { now } from '../core/clock.ts'
import { ready } from '../core/module.ts'

/** When something happened to a job, by the clock that processes share. */
export interface Mark {
  sequence: number
  at: number
}

/** An enqueue, from its start to when its commit was known. */
export interface Enqueued extends Mark {
  from: number
}

export interface Enqueue {
  /** The sequence number of the first job. */
  first: number
  jobs: number
  intervalMs: number
}

/** Reports to the bench, from a handler, that it has started. */
export function reportStarted(sequence: number): void {
  process.send?.({ sequence, at: now() } satisfies Mark)
}

/**
 * Enqueues what the bench asks for, in a process of its own, whether or not earlier jobs have committed.
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
