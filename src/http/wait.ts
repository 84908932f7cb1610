import type { FastifyReply } from 'fastify'
import type { Job } from '../jobs/job.ts'
import type { Service } from './service.ts'

export interface WaitOptions {
  /** The job to wait for. */
  id: string
  /** At most. */
  seconds: number
  /** Reads the job as it is now; called once the watch is set up. */
  read: () => Promise<Job>
  isOver: (job: Job) => boolean
}

/**
 * Holds an answer until the job is as it should be, the time is over, the client has gone or the process is draining;
 * answers the newest status of the job that is known then.
 */
export async function waitFor({ watcher, draining }: Service, reply: FastifyReply, options: WaitOptions): Promise<Job> {
  const { id, seconds, read, isOver } = options
  if (seconds === 0) return read()
  let newest: Job | undefined
  let wake = () => {}
  let isEnough = false
  const enough = () => {
    isEnough = true
    wake()
  }
  const unwatch = watcher.watchJob(id, (job) => {
    newest = job
    wake()
  })
  const timer = setTimeout(enough, seconds * 1000)
  draining.addEventListener('abort', enough)
  // A client that has left already says so no more.
  if (reply.raw.destroyed) enough()
  else reply.raw.once('close', enough)
  try {
    const found = await read()
    const current = () => (newest && Number(newest.sequence) > Number(found.sequence) ? newest : found)
    await new Promise<void>((resolve) => {
      wake = () => {
        if (isEnough || draining.aborted || isOver(current())) resolve()
      }
      wake()
    })
    return current()
  } finally {
    unwatch()
    clearTimeout(timer)
    draining.removeEventListener('abort', enough)
  }
}
