// The protocol between the bench, the process that enqueues jobs (the feeder) and the worker.
import { setTimeout as delay } from 'node:timers/promises'
import { ready } from '../core/module.ts'

/** From the worker to the bench and on to the feeder: this many more jobs have completed. */
export interface Completed {
  completed: number
}

/** From the bench to the feeder: how many jobs to keep in flight from now on; 0 stops it. */
export interface Feed {
  maxInFlight: number
}

/** From the feeder to the bench: it has stopped; this many jobs could not be enqueued since the start. */
export interface FeedStopped {
  failed: number
}

/** Reports completed jobs to the bench, from the process of a worker. */
export function reportCompleted(completed: number): void {
  process.send?.({ completed } satisfies Completed)
}

/** Enqueues a job for each one that has completed (a closed loop). */
export interface Feeder {
  jobsPerSend: number
  concurrentSends: number
  /** Resolves when the jobs are stored. */
  send(count: number): Promise<unknown>
}

const delayAfterErrorMs = 100

/** Keeps as many jobs in flight as the bench asks for, in a process of its own. */
export function serveFeeder({ jobsPerSend, concurrentSends, send }: Feeder): void {
  let maxInFlight = 0
  let inFlight = 0
  let sending = 0
  let failed = 0
  const sendOne = async () => {
    sending += 1
    inFlight += jobsPerSend
    try {
      await send(jobsPerSend)
    } catch (error) {
      console.error(error)
      failed += jobsPerSend
      inFlight -= jobsPerSend
      await delay(delayAfterErrorMs)
    }
    sending -= 1
    proceed()
  }
  const proceed = () => {
    while (sending < concurrentSends && inFlight + jobsPerSend <= maxInFlight) void sendOne()
    if (maxInFlight === 0 && sending === 0) process.send?.({ failed } satisfies FeedStopped)
  }
  process.on('message', (message: Completed | Feed) => {
    if ('completed' in message) inFlight -= message.completed
    else maxInFlight = message.maxInFlight
    if ('completed' in message && maxInFlight === 0) return
    proceed()
  })
  ready()
}
