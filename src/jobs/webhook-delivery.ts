import { sql } from 'kysely'
import Type from 'typebox'
import { type AnyTransaction, defineOperation, deliveryName } from '../operation.ts'
import { uuid7 } from '../primitives/uuid.ts'
import type { PgBoss } from '../queue/boss.ts'
import { enqueue } from './enqueue.ts'

/** Notifies one webhook endpoint of the outcome of one job. Each delivery is a job with its own retries. */
export const deliverWebhook = defineOperation({
  name: deliveryName,
  summary: 'Notify a webhook endpoint of the outcome of a job',
  input: Type.Object({ endpointId: Type.String(), jobId: Type.String() }),
  retry: { limit: 7 },
  timeoutSeconds: 20,
})

/** A job that ends in the transaction, with the webhook endpoints to notify. */
export interface EndedJob {
  id: string
  endpoints: string[] | null
  /** Whether the job has a parent, or other jobs wait for it. */
  has_relatives: boolean
}

/**
 * The column `endpoints` of {@link EndedJob}. In the `returning` list of the statement that ends the jobs, it needs no
 * round trip of its own.
 */
export const matchingEndpoints = sql<string[] | null>`(
  select array_agg(endpoint.id) from accepted.webhook_endpoint endpoint
  where endpoint.disabled_at is null and 'job.' || job.status = any(endpoint.event_types)
    and (endpoint.operations is null or job.operation = any(endpoint.operations))
    and (endpoint.principal is null or endpoint.principal = job.principal)
    and (job.webhook_endpoint_id is null or job.webhook_endpoint_id = endpoint.id)
    and job.operation <> ${sql.lit(deliveryName)}
) as endpoints`

/**
 * Enqueues the webhook deliveries of jobs that end in the transaction. The deliveries and the outcomes of the jobs
 * commit together.
 *
 * @returns the operations whose workers must be notified after the commit
 */
export async function enqueueDeliveries(
  boss: PgBoss,
  trx: AnyTransaction,
  ended: readonly EndedJob[],
): Promise<string[]> {
  const deliveries = ended.flatMap(({ id, endpoints }) =>
    (endpoints ?? []).map((endpointId) => ({
      id: uuid7(),
      operation: deliverWebhook,
      payload: { endpointId, jobId: id },
      principal: `webhook:${endpointId}`,
    })),
  )
  if (deliveries.length === 0) return []
  await enqueue(boss, trx, deliveries)
  return [deliverWebhook.name]
}
