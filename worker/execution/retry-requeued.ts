import { sql } from 'kysely'
import { runWithGenericPlan } from '../../src/db/plan-settings.ts'
import type { BatchOutcome, JobErrorColumn, JobStatus } from '../../src/db/tables.ts'
import { enqueue } from '../../src/jobs/enqueue.ts'
import { idIn } from '../../src/jobs/job.ts'
import type { NewJob } from '../../src/jobs/new-job.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import { DecryptionError } from '../../src/primitives/key-ring.ts'
import { uuid7 } from '../../src/primitives/uuid.ts'
import type { Claim } from '../../src/queue/claim.ts'
import { senderOf } from './attempt-spans.ts'
import { type OperationWorker, openPayload } from './operation-worker.ts'

interface EndedJob {
  id: string
  status: JobStatus
  principal: string
  resource: string | null
  idempotency_key: string | null
  webhook_endpoint_id: string | null
  traceparent: string | null
  tracestate: string | null
  batch: BatchOutcome | null
}

/** What {@link retryRequeued} has found. */
export interface Requeued {
  /** The operations that have new jobs. Notify their workers after the commit. */
  enqueued: string[]
  /** Claims without a job in `accepted.job`. */
  unknown: Claim[]
}

/**
 * Retries failed jobs whose queue row was put back into the queue, for example with pg-boss's own redrive. A final
 * status never changes. So each of these jobs runs again as a new job, like any other retry.
 *
 * @param claims claims of jobs that have ended or have no record
 */
export async function retryRequeued(
  worker: OperationWorker,
  trx: AnyTransaction,
  claims: readonly Claim[],
): Promise<Requeued> {
  if (claims.length === 0) return { enqueued: [], unknown: [] }
  const ids = claims.map(({ jobId }) => jobId)
  const statement = sql<EndedJob>`
    select id, status, principal, resource, idempotency_key, webhook_endpoint_id, traceparent, tracestate, batch
    from accepted.job
    where ${idIn(ids)} and operation = ${worker.operation.name}`
  const { rows } = await runWithGenericPlan(trx, statement)
  const found = new Map(rows.map((row) => [row.id, row]))
  const retries = claims.flatMap((claim) => {
    const job = found.get(claim.jobId)
    // The queue row has lost its payload if a DBA has deleted it.
    return job?.status === 'failed' && claim.payload !== undefined ? newRetry(worker, claim, job) : []
  })
  const created = retries.map(({ id }) => id)
  if (found.size > 0) {
    const jobs = [...found.keys()]
    worker.log.warn({ jobs, retries: created }, 'Claimed jobs had already ended; failed jobs run again as new jobs')
  }
  const unknown = claims.filter(({ jobId }) => !found.has(jobId))
  if (retries.length === 0) return { enqueued: [], unknown }
  await enqueue(worker.boss, trx, retries, worker.seals)
  return { enqueued: [worker.operation.name], unknown }
}

const unknownJob: JobErrorColumn = {
  code: 'unknown-job',
  message: 'The row in the queue has no job in accepted.job, so it did not run; enqueue jobs with accepted.enqueue',
}

/** Marks queue rows without a job as failed. Deleting them would hide that their work was not done. */
export async function failUnknown(
  { claims, log }: OperationWorker,
  trx: AnyTransaction,
  unknown: readonly Claim[],
): Promise<void> {
  for (const claim of unknown) {
    await claims.fail(trx, claim, unknownJob, 'never')
    log.error({ job: claim.jobId, queueId: claim.queued.id, error: unknownJob }, 'A row in the queue has no job')
  }
}

/**
 * Makes the retry of a job, like the function `accepted.create_retry`, but with the payload of the queue row. Makes none
 * if the payload cannot be opened: the failed job keeps it, and can be retried by a worker that has the key.
 */
function newRetry(worker: OperationWorker, claim: Claim, job: EndedJob): NewJob[] {
  try {
    return [
      {
        id: uuid7(),
        operation: worker.operation,
        payload: openPayload(worker, claim, job),
        principal: job.principal,
        idempotencyKey: job.idempotency_key ?? job.id,
        resource: job.resource ?? undefined,
        retryOf: job.id,
        batch: job.batch,
        webhookEndpointId: job.webhook_endpoint_id ?? undefined,
        ...senderOf(job),
      },
    ]
  } catch (err) {
    if (!(err instanceof DecryptionError)) throw err
    worker.log.error({ err, job: job.id }, 'The payload could not be decrypted; the job stays failed')
    return []
  }
}
