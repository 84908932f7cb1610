import type { FastifyReply } from 'fastify'
import type { Logger } from 'pino'
import { createErrorReporter } from '../../db/error-reporter.ts'
import type { Job } from '../../jobs/job.ts'
import { findJob } from '../../jobs/read.ts'
import { isFinal } from '../../jobs/status.ts'
import type { Service } from '../service.ts'
import { recordCommitted } from './committed.ts'
import { linkToJob, monitorOf } from './links.ts'
import { longPoll } from './long-poll.ts'
import { type Preferences, parsePrefer, preferenceApplied } from './prefer.ts'
import { sendMonitor } from './send-monitor.ts'
import { sendResult } from './send-result.ts'

/**
 * Answers a request. Call this function only after the job is committed. The header `Prefer` decides whether to wait
 * until the job ends, and whether the response has a body.
 */
export function sendAccepted(service: Service, reply: FastifyReply, job: Job): FastifyReply {
  recordCommitted(reply, {
    ...{ job, status: 202 },
    link: () => linkToJob(service, reply, job),
    monitor: () => monitorOf(service, reply.request, job),
  })
  service.notifier.notify('work', [job.operation])
  service.notifier.notify('status', [job.id])
  const preferences = parsePrefer(reply.request.headers.prefer)
  const { wait = 0, ...others } = preferences
  if (wait === 0) return send202(service, reply, job, preferences)
  // The job is committed, so the request is not refused.
  if (!service.openRequests.hasRoom(reply.request.principal)) return send202(service, reply, job, others)
  waitForJobEnd(service, reply, job, wait)
    .catch((error) => {
      // The job is committed, so the response must still be a 202.
      const report = createErrorReporter(reply.log as Logger)
      report(error, 'Could not wait until the job ends; answering 202', { job: job.id })
      return job
    })
    .then((newest) => (isFinal(newest.status) ? sendEnded : send202)(service, reply, newest, preferences))
    .catch((error) => reply.send(error))
  return reply
}

const waitForJobEnd = (service: Service, reply: FastifyReply, job: Job, seconds: number): Promise<Job> =>
  longPoll(service, reply, {
    jobId: job.id,
    seconds,
    read: async () => {
      const found = await findJob(service.database.kysely, job.id, { principal: job.principal })
      return typeof found === 'string' ? job : found.job
    },
    isReady: ({ status }) => isFinal(status),
  })

function send202(service: Service, reply: FastifyReply, job: Job, preferences: Preferences): FastifyReply {
  linkToJob(service, reply, job).headers(preferenceApplied(preferences))
  return preferences.return === 'minimal' ? reply.send() : sendMonitor(service, reply, job)
}

/** Answers for a job that has ended. Ignores `return=minimal`, because the outcome of the job is in the body. */
function sendEnded(service: Service, reply: FastifyReply, job: Job, { wait, ...rest }: Preferences): FastifyReply {
  const wantsResult = rest.return === 'representation'
  const hasResult = job.status === 'succeeded' && (job.resource !== null || job.result !== null || job.is_cut)
  linkToJob(service, reply, job)
    .removeHeader('retry-after')
    .headers(preferenceApplied({ wait, ...(wantsResult && { return: 'representation' }) } as Preferences))
  // Content-Location is the URL of the monitor, but the body is the result.
  if (wantsResult && hasResult) return sendResult(service, reply.removeHeader('content-location'), job)
  return sendMonitor(service, reply.code(200), job)
}
