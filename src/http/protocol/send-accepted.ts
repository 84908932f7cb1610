import type { FastifyReply } from 'fastify'
import type { Job } from '../../jobs/job.ts'
import { findJob } from '../../jobs/read.ts'
import { isFinal } from '../../jobs/status.ts'
import type { Service } from '../service.ts'
import { linkToJob, monitorOf } from './links.ts'
import { longPoll } from './long-poll.ts'
import { type Preferences, parsePrefer, preferenceApplied } from './prefer.ts'
import { sendResult } from './send-result.ts'

/**
 * Answers a request that has become a job. Call it after the commit. `Prefer` decides whether the answer is sent
 * immediately or when the job has ended, and whether it has a body.
 */
export function sendAccepted(service: Service, reply: FastifyReply, job: Job): FastifyReply {
  service.notifier.notify('work', [job.operation])
  service.notifier.notify('status', [job.id])
  const preferences = parsePrefer(reply.request.headers.prefer)
  const { wait = 0 } = preferences
  if (wait === 0) return send202(service, reply, job, preferences)
  waitForEnd(service, reply, job, wait)
    .catch((error) => {
      // The job is committed, so the answer must still be 202.
      reply.log.warn({ err: error, job: job.id }, 'Waiting for the end of a job failed; answering 202')
      return job
    })
    .then((newest) => (isFinal(newest.status) ? sendEnded : send202)(service, reply, newest, preferences))
    .catch((error) => reply.send(error))
  return reply
}

const waitForEnd = (service: Service, reply: FastifyReply, job: Job, seconds: number): Promise<Job> =>
  longPoll(service, reply, {
    jobId: job.id,
    seconds,
    read: async () => {
      const found = await findJob(service.database.kysely, job.id, job.principal)
      return typeof found === 'string' ? job : found.job
    },
    isReady: ({ status }) => isFinal(status),
  })

function send202(service: Service, reply: FastifyReply, job: Job, preferences: Preferences): FastifyReply {
  linkToJob(service, reply, job).headers(preferenceApplied(preferences))
  return preferences.return === 'minimal' ? reply.send() : reply.send(monitorOf(service, reply.request, job))
}

/** Answers with the end of the job. `return=minimal` is not honoured: the client would not learn how the job ended. */
function sendEnded(service: Service, reply: FastifyReply, job: Job, { wait, ...rest }: Preferences): FastifyReply {
  const wantsResult = rest.return === 'representation'
  const hasResult = job.status === 'succeeded' && (job.resource !== null || job.result !== null)
  linkToJob(service, reply, job)
    .removeHeader('retry-after')
    .headers(preferenceApplied({ wait, ...(wantsResult && { return: 'representation' }) } as Preferences))
  // Content-Location names the monitor, but the body is the result.
  if (wantsResult && hasResult) return sendResult(service, reply.removeHeader('content-location'), job)
  return reply.code(200).send(monitorOf(service, reply.request, job))
}
