import { sql } from 'kysely'
import { runWithGenericPlan } from '../../src/db/plan-settings.ts'
import { enqueue, type NewJob } from '../../src/jobs/enqueue.ts'
import { idIn } from '../../src/jobs/job.ts'
import type { AnyTransaction, Operation } from '../../src/operation.ts'
import { uuid7 } from '../../src/primitives/uuid.ts'
import type { Claim } from '../../src/queue/claim.ts'
import type { OperationWorker } from './operation-worker.ts'

interface FailedJob {
  id: string
  principal: string
  resource: string | null
  idempotency_key: string | null
  webhook_endpoint_id: string | null
}

/**
 * Retries failed jobs whose queue row was put back into the queue, for example with pg-boss's own redrive. A final
 * status never changes. So each of these jobs runs again as a new job, like any other retry.
 *
 * @param claims claims of jobs that have ended or have no record
 * @returns the operations that have new jobs; notify their workers after the commit
 */
export async function retryRequeued(
  worker: OperationWorker,
  trx: AnyTransaction,
  claims: readonly Claim[],
): Promise<string[]> {
  if (claims.length === 0) return []
  const ids = claims.map(({ jobId }) => jobId)
  const statement = sql<FailedJob>`
    select id, principal, resource, idempotency_key, webhook_endpoint_id from accepted.job
    where ${idIn(ids)} and operation = ${worker.operation.name} and status = 'failed'`
  const { rows } = await runWithGenericPlan(trx, statement)
  const failed = new Map(rows.map((row) => [row.id, row]))
  const retries = claims.flatMap(({ jobId, payload }) => {
    const job = failed.get(jobId)
    // The queue row has lost its payload if a DBA has deleted it.
    return job && payload !== undefined ? [newRetry(job, payload, worker.operation)] : []
  })
  const created = retries.map(({ id }) => id)
  worker.log.warn({ jobs: ids, retries: created }, 'Claimed jobs had already ended; failed jobs run again as new jobs')
  if (retries.length === 0) return []
  await enqueue(worker.boss, trx, retries)
  return [worker.operation.name]
}

/** Makes the retry of a job, like the function `accepted.create_retry`, but with the payload of the queue row. */
const newRetry = (job: FailedJob, payload: unknown, operation: Operation): NewJob => ({
  id: uuid7(),
  operation,
  payload,
  principal: job.principal,
  idempotencyKey: job.idempotency_key ?? job.id,
  resource: job.resource ?? undefined,
  retryOf: job.id,
  webhookEndpointId: job.webhook_endpoint_id ?? undefined,
})
