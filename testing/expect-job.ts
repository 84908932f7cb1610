import { AssertionError } from 'node:assert'
import type { Kysely } from 'kysely'
import type { Monitor } from '../src/jobs/monitor-schema.ts'
import { describeJob } from './describe.ts'

/** What a job must be. Members that are left out may be anything. */
export interface Expected {
  status: Monitor['status']
  /** The code of the error of a failed job. */
  error?: string
}

/**
 * Checks a job.
 *
 * @param job undefined if there is no such job
 * @throws AssertionError with the timeline of the job
 */
export async function assertJob(
  db: Kysely<unknown>,
  id: string,
  job: Monitor | undefined,
  expected: Expected,
): Promise<Monitor> {
  const actual = job && { status: job.status, ...(expected.error !== undefined && { error: job.error?.code }) }
  if (job && actual?.status === expected.status && actual.error === expected.error) return job
  throw new AssertionError({
    message: await explain(db, id, job, expected),
    ...{ actual, expected, operator: 'expectJob', stackStartFn: assertJob },
  })
}

async function explain(
  db: Kysely<unknown>,
  id: string,
  job: Monitor | undefined,
  { status, error }: Expected,
): Promise<string> {
  if (!job) return `Job ${id}: expected ${status}, but there is no such job, or its record has expired`
  const wanted = error === undefined ? status : `${status} with ${error}`
  const found = job.error ? `${job.status} with ${job.error.code}` : job.status
  return `Job ${id} of ${job.operation}: expected ${wanted}, but it is ${found}${hintFor(job)}\n${await describeJob(db, id)}`
}

function hintFor({ status, attempt, nextAttemptAt }: Monitor): string {
  if (status === 'running') return ': if its worker was killed, kit.advance({ minutes: 1 }) lets it run again'
  if (status !== 'queued') return ''
  if (nextAttemptAt) return ' and waits for its time: let it pass with kit.advance({ … })'
  return attempt === 0 ? ': call kit.runUntilIdle() first' : ''
}
