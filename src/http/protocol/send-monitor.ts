import type { FastifyReply } from 'fastify'
import { ProblemError } from '../../errors.ts'
import type { Job } from '../../jobs/job.ts'
import { readWholeJob, type WholeJob } from '../../jobs/read.ts'
import type { Service } from '../service.ts'
import { monitorOf } from './links.ts'

/** Clients that wait for the same job share one read. */
const wholeJobs = new WeakMap<Job, Promise<WholeJob | undefined>>()

/** Makes a JSON text from a job of which something was left out. Waits for its turn: see {@link LargeAnswers}. */
export function makeFromWholeJob(
  { database, largeAnswers, results }: Service,
  reply: FastifyReply,
  job: Job,
  toJson: (whole: WholeJob) => string,
): Promise<string> {
  return largeAnswers.make(reply, async () => {
    const reading = wholeJobs.get(job) ?? readWholeJob(database.kysely, job.id)
    wholeJobs.set(job, reading)
    const whole = await reading
    if (!whole) throw new ProblemError('job-expired')
    const { resultJson } = whole
    if (resultJson === null) return toJson(whole)
    return toJson({ ...whole, resultJson: results.showJson(whole.job, reply.request.principal, resultJson) })
  })
}

/** Answers with the JSON text that is made from a job of which something was left out. */
export function sendFromWholeJob(
  service: Service,
  reply: FastifyReply,
  job: Job,
  toJson: (whole: WholeJob) => string,
): FastifyReply {
  makeFromWholeJob(service, reply, job, toJson)
    .then((text) => reply.send(text))
    .catch((error) => reply.send(error))
  return reply
}

/** Returns the function that makes the monitor document of a job. Its result is not parsed. */
export const toMonitorJson = (service: Service, { request }: FastifyReply) => {
  return ({ job, resultJson }: WholeJob): string => {
    const monitor = JSON.stringify(monitorOf(service, request, job))
    if (job.status !== 'succeeded' || resultJson === null) return monitor
    return `${monitor.slice(0, -1)},"result":${resultJson}}`
  }
}

/** Answers with the monitor document of a job, with its result. */
export function sendMonitor(service: Service, reply: FastifyReply, job: Job): FastifyReply {
  if (!job.is_cut) return reply.send(monitorOf(service, reply.request, job))
  reply.type('application/json; charset=utf-8')
  return sendFromWholeJob(service, reply, job, toMonitorJson(service, reply))
}
