import { fingerprintOf, type Idempotency } from '../accept/fingerprint.ts'
import { parseIdempotencyKey } from '../accept/idempotency-key.ts'
import { ProblemError } from '../errors.ts'
import type { Job } from '../jobs/job.ts'
import type { Monitor } from '../jobs/monitor-schema.ts'
import { findJob, readWholeJob } from '../jobs/read.ts'
import { traceSend } from '../jobs/spans.ts'
import { assertOptions } from '../primitives/assert-options.ts'
import { cancel } from './cancel.ts'
import type { Core } from './core.ts'
import { retry } from './retry.ts'

/** Options of a call for one job. */
export interface JobOptions {
  /**
   * The principal on whose behalf the app acts: jobs of others do not exist for it, and the audit records it. Default:
   * the app itself, for jobs of any principal.
   */
  principal?: string
}

export interface RetryOptions extends JobOptions {
  /** Idempotency key: further retries with the same key return the same new job. Default: each call makes a new job. */
  key?: string
}

const actorOf = ({ principal }: JobOptions) => (principal === undefined ? undefined : { principal })

/** Reads a job, with its whole result. */
export async function getFor(
  { database: { kysely } }: Core,
  id: string,
  options: JobOptions = {},
  show: (job: Job) => Monitor,
): Promise<Monitor | undefined> {
  assertOptions('get', options, ['principal'])
  const found = await findJob(kysely, id, { principal: options.principal })
  if (typeof found === 'string') return undefined
  if (!found.job.is_cut) return show(found.job)
  const whole = await readWholeJob(kysely, id)
  return whole && show({ ...whole.job, result: JSON.parse(whole.resultJson ?? 'null') })
}

export async function cancelFor(core: Core, id: string, options: JobOptions = {}): Promise<Job> {
  assertOptions('cancel', options, ['principal'])
  await findExisting(core, id, options)
  const outcome = await cancel(core, { id, filter: { principal: options.principal }, actor: actorOf(options) })
  if (outcome.kind === 'unknown') throw notFound()
  if (outcome.kind !== 'too-late') return outcome.job
  throw new ProblemError('job-ended', `The job has already ${outcome.job.status} and cannot be canceled`)
}

/** Retries a job. A retry over HTTP with the same key and principal returns the same new job. */
export async function retryFor(core: Core, id: string, jobsPath: string, options: RetryOptions = {}): Promise<Job> {
  assertOptions('retry', options, ['principal', 'key'])
  const job = await findExisting(core, id, options)
  const principal = options.principal ?? job.principal
  const outcome = await retry(core, {
    ...{ job, owner: options.principal, principal, actor: actorOf(options) },
    idempotency: options.key === undefined ? undefined : idempotencyOf(options.key, `${jobsPath}/${job.id}/retry`),
    trace: (message, send) => traceSend(core.tracing, message, send),
  })
  if (outcome.kind === 'key-reused') throw new ProblemError('idempotency-key-reused')
  if (outcome.kind === 'replayed') return findExisting(core, outcome.jobId, {})
  core.notifier.notify('work', [outcome.job.operation])
  core.notifier.notify('status', [outcome.job.id])
  return outcome.job
}

function idempotencyOf(givenKey: string, path: string): Idempotency {
  const key = parseIdempotencyKey([givenKey]) as string
  return { key, ...fingerprintOf({ method: 'POST', path, query: '', mediaType: '', body: undefined }, undefined) }
}

/** @throws ProblemError not-found, job-expired */
async function findExisting({ database }: Core, id: string, { principal }: JobOptions): Promise<Job> {
  const found = await findJob(database.kysely, id, { principal })
  if (found === 'unknown') throw notFound()
  if (found === 'expired') throw new ProblemError('job-expired')
  return found.job
}

const notFound = () => new ProblemError('not-found', 'There is no job with this id, or it belongs to another principal')
