import type { FastifyRequest } from 'fastify'
import Type from 'typebox'
import { ProblemError } from '../../errors.ts'
import type { Job } from '../../jobs/job.ts'
import { findJob } from '../../jobs/read.ts'
import { visibleJobs } from '../access.ts'
import type { Service } from '../service.ts'

export const JobParams = Type.Object({ id: Type.String({ description: 'The id of the job' }) })

export type JobRequest = FastifyRequest<{ Params: { id: string } }>

/**
 * Finds the job whose id is in the path of a request.
 *
 * @throws ProblemError not-found, job-expired
 */
export async function findRequestedJob({ database }: Service, request: JobRequest): Promise<Job> {
  const found = await findJob(database.kysely, request.params.id, visibleJobs(request))
  if (found === 'unknown') throw jobNotFound()
  if (found === 'expired') throw new ProblemError('job-expired')
  return found.job
}

/** Creates the error for an unknown job and for another principal's job. Clients cannot tell these cases apart. */
export const jobNotFound = () =>
  new ProblemError('not-found', 'There is no job with this id, or it belongs to another principal')
