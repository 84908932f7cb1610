import type { FastifyRequest } from 'fastify'
import Type from 'typebox'
import { ProblemError } from '../errors.ts'
import type { Job } from '../jobs/job.ts'
import { findJob } from '../jobs/read.ts'
import type { Service } from './service.ts'

/** The path of a job. */
export const JobParams = Type.Object({ id: Type.String({ description: 'The id of the job' }) })

export type JobRequest = FastifyRequest<{ Params: { id: string } }>

/**
 * The job that a request is about.
 *
 * @throws ProblemError not-found, job-expired
 */
export async function findRequested({ database }: Service, { params, principal }: JobRequest): Promise<Job> {
  const found = await findJob(database.kysely, params.id, principal)
  if (found === 'unknown') throw noSuchJob()
  if (found === 'expired') throw new ProblemError('job-expired')
  return found.job
}

/** There is none, or it is somebody else's: which of the two is nobody's business. */
export const noSuchJob = () => new ProblemError('not-found', 'There is no such job, or it is not yours')
