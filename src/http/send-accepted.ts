import type { FastifyReply } from 'fastify'
import type { Job } from '../jobs/job.ts'
import { findJob } from '../jobs/read.ts'
import { isFinal } from '../jobs/state.ts'
import { linkToJob, monitorOf } from './links.ts'
import { type Preferences, parsePrefer, preferenceApplied } from './prefer.ts'
import type { Service } from './service.ts'
import { sendResult } from './status.ts'
import { waitFor } from './wait.ts'

/**
 * Answers a request that became a job, after the commit: 202 with its links and its monitor. As the client prefers: at
 * once or when it has ended, with a body or without.
 */
export function sendAccepted(service: Service, reply: FastifyReply, job: Job): FastifyReply {
  service.hints.notify('work', [job.operation])
  service.hints.notify('status', [job.id])
  const preferences = parsePrefer(reply.request.headers.prefer)
  const { wait = 0 } = preferences
  if (wait === 0) return send202(service, reply, job, preferences)
  waitForEnd(service, reply, job, wait)
    .catch((error) => {
      // The job is there all the same.
      reply.log.warn({ err: error }, 'The wait for the end of a job was broken off')
      return job
    })
    .then((newest) => (isFinal(newest.state) ? sendEnded : send202)(service, reply, newest, preferences))
    .catch((error) => reply.send(error))
  return reply
}

const waitForEnd = (service: Service, reply: FastifyReply, job: Job, seconds: number): Promise<Job> =>
  waitFor(service, reply, {
    id: job.id,
    seconds,
    read: async () => {
      const found = await findJob(service.database.kysely, job.id, job.principal)
      return typeof found === 'string' ? job : found.job
    },
    isOver: ({ state }) => isFinal(state),
  })

function send202(service: Service, reply: FastifyReply, job: Job, preferences: Preferences): FastifyReply {
  linkToJob(service, reply, job).headers(preferenceApplied(preferences))
  return preferences.return === 'minimal' ? reply.send() : reply.send(monitorOf(service, reply.request, job))
}

/** How it ended is told in any case: `return=minimal` would leave the client guessing. */
function sendEnded(service: Service, reply: FastifyReply, job: Job, { wait, ...rest }: Preferences): FastifyReply {
  const wantsResult = rest.return === 'representation'
  const hasResult = job.state === 'succeeded' && (job.resource !== null || job.result !== null)
  linkToJob(service, reply, job)
    .removeHeader('retry-after')
    .headers(preferenceApplied({ wait, ...(wantsResult && { return: 'representation' }) } as Preferences))
  // A result is not what the monitor says.
  if (wantsResult && hasResult) return sendResult(service, reply.removeHeader('content-location'), job)
  return reply.code(200).send(monitorOf(service, reply.request, job))
}
