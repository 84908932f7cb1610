// The protocol between the bench, the process that enqueues jobs (the feeder) and the worker.
import { setTimeout as delay } from 'node:timers/promises'
import { ready } from '../core/module.ts'

/** The worker sends this to the bench, which forwards it to the feeder: this number of jobs have completed. */
export interface Completed {
  completed: number
}

/** The bench sends this to the feeder: how many jobs to keep in flight from now on. 0 stops the feeder. */
export interface Feed {
  maxJobsInFlight: number
}

/** The feeder sends this to the bench when it has stopped: how many jobs could not be enqueued since the start. */
export interface FeedStopped {
  failed: number
}

/** Reports completed jobs to the bench. Call this in the process of a worker. */
export function reportCompleted(completed: number): void {
  process.send?.({ completed } satisfies Completed)
}

/** Enqueues a job for each completed job (a closed loop). */
export interface Feeder {
  jobsPerSend: number
  concurrentSends: number
  /** Resolves when the jobs are stored. */
  send(count: number): Promise<unknown>
}

const delayAfterErrorMs = 100

/** Keeps as many jobs in flight as the bench asks for. Call this in the process of a feeder. */
export function serveFeeder({ jobsPerSend, concurrentSends, send }: Feeder): void {
  let maxJobsInFlight = 0
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
    while (sending < concurrentSends && inFlight + jobsPerSend <= maxJobsInFlight) void sendOne()
    if (maxJobsInFlight === 0 && sending === 0) process.send?.({ failed } satisfies FeedStopped)
  }
  process.on('message', (message: Completed | Feed) => {
    if ('completed' in message) inFlight -= message.completed
    else maxJobsInFlight = message.maxJobsInFlight
    if ('completed' in message && maxJobsInFlight === 0) return
    proceed()
  })
  ready()
}
