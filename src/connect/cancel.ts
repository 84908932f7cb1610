import type { Actor } from '../db/actor.ts'
import { errorCode, sqlstate } from '../db/sqlstate.ts'
import { type CancelOutcome, cancelJob } from '../jobs/cancel.ts'
import type { Job } from '../jobs/job.ts'
import { findJob, type JobFilter } from '../jobs/read.ts'
import { isFinal } from '../jobs/status.ts'
import { settledWithin } from '../primitives/timeout.ts'
import type { Core } from './core.ts'
import { runJobTransaction } from './job-transaction.ts'

/** How long the caller waits for `abandon`. Then the cancellation is only requested. */
const maxAbandonMs = 5_000

export interface CancelRequest {
  id: string
  /** Which jobs the caller may cancel. */
  filter: JobFilter
  actor: Actor | undefined
  /** Returns whether the caller accepts this sequence of the job (If-Match). Default: every sequence. */
  isExpected?: (sequence: string) => boolean
}

/**
 * Cancels a job, and commits that. If the operation has `abandon` and the job is queued, the job ends before this
 * function returns, unless `abandon` fails or takes too long.
 *
 * @throws ProblemError job-locked
 */
export async function cancel(core: Core, request: CancelRequest): Promise<CancelOutcome> {
  const { id, filter, actor, isExpected } = request
  const run = () =>
    runJobTransaction(core, id, actor, (trx) => cancelJob(trx, { id, principal: filter.principal }, isExpected))
  // A job that waits for its children is not locked while its status is checked, so it may have ended after the check.
  const requested = await run().catch((error: unknown) => {
    if (errorCode(error) === sqlstate.objectNotInPrerequisiteState) return run()
    throw error
  })
  if (requested.kind !== 'requested' || requested.job.status !== 'queued') return requested
  return abandonCanceled(core, filter, requested)
}

/** Ends a queued job whose operation has `abandon`, after its cancellation was requested. */
async function abandonCanceled(
  { database, operations, endings, log }: Core,
  filter: JobFilter,
  requested: CancelOutcome & { job: Job },
): Promise<CancelOutcome> {
  const { id } = requested.job
  const operation = operations.get(requested.job.operation)
  if (!operation?.abandon) return requested
  const completed = endings.complete(operation, id).catch((err) => {
    log.warn({ err, job: id }, 'The cancellation is requested, but not committed; it is committed later')
  })
  await settledWithin(completed, maxAbandonMs)
  // The request is committed, so an outage now must not turn its answer into an error.
  const found = await findJob(database.kysely, id, filter).catch(() => 'unknown' as const)
  if (typeof found === 'string') return requested
  if (found.job.status === 'canceled') return { kind: 'canceled', job: found.job }
  return isFinal(found.job.status) ? { kind: 'too-late', job: found.job } : requested
}
