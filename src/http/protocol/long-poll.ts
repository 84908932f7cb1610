import type { FastifyReply } from 'fastify'
import { ProblemError } from '../../errors.ts'
import type { Job } from '../../jobs/job.ts'
import type { Service } from '../service.ts'

export interface LongPollOptions {
  jobId: string
  /** The maximum time to wait for the job. */
  seconds: number
  /** Reads the current version of the job. It is called once, after the watch has started. */
  read: () => Promise<Job>
  /** Returns whether the wait can end with this version of the job. */
  isReady: (job: Job) => boolean
}

/**
 * Waits until `isReady` returns true, the time is over, the client disconnects or the server starts to close.
 *
 * @returns the newest known version of the job
 * @throws ProblemError too-many-requests, or unauthenticated when the credential of the request is no longer valid
 */
export async function longPoll(
  { watcher, credentials, draining, openRequests }: Service,
  reply: FastifyReply,
  { jobId, seconds, read, isReady }: LongPollOptions,
): Promise<Job> {
  if (seconds === 0) return read()
  const close = openRequests.open(reply.request.principal)
  let newest: Job | undefined
  let isStopped = false
  let check = () => {}
  const stop = () => {
    isStopped = true
    check()
  }
  const unwatch = watcher.watchJob(jobId, (job) => {
    newest = job
    check()
  })
  let isRefused = false
  const unwatchCredential = credentials.watch(reply.request, () => {
    isRefused = true
    stop()
  })
  const timer = setTimeout(stop, seconds * 1000)
  draining.addEventListener('abort', stop)
  // If the client has already disconnected, Node emits no 'close' event.
  if (reply.raw.destroyed) stop()
  else reply.raw.once('close', stop)
  try {
    const found = await read()
    const current = () => (newest && Number(newest.sequence) > Number(found.sequence) ? newest : found)
    await new Promise<void>((resolve) => {
      check = () => {
        if (isStopped || draining.aborted || isReady(current())) resolve()
      }
      check()
    })
    if (isRefused) throw new ProblemError('unauthenticated')
    return current()
  } finally {
    close()
    unwatch()
    unwatchCredential()
    clearTimeout(timer)
    draining.removeEventListener('abort', stop)
  }
}
