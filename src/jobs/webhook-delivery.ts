import { sql } from 'kysely'
import Type from 'typebox'
import type { PgBoss } from '../db/boss.ts'
import { type AnyTransaction, defineOperation, deliveryName } from '../operation.ts'
import { uuid7 } from '../uuid.ts'
import { enqueue } from './enqueue.ts'

/** Tells one webhook endpoint of the end of one job: a job of its own, with the attempts of its own that need. */
export const deliverWebhook = defineOperation({
  name: deliveryName,
  summary: 'Tell a webhook endpoint that a job has ended',
  input: Type.Object({ endpointId: Type.String(), jobId: Type.String() }),
  retry: { limit: 7 },
  timeoutSeconds: 20,
})

/** A job that ends in the transaction, with the endpoints that are to be told. */
export interface EndedJob {
  id: string
  endpoints: string[] | null
}

/**
 * For the `returning` of a statement that ends rows of `accepted.job`: the column `endpoints` of {@link EndedJob}. So
 * that nothing is asked of the database by itself when nobody is to be told.
 */
export const endpointsToTell = sql<string[] | null>`(
  select array_agg(endpoint.id) from accepted.webhook_endpoint endpoint
  where endpoint.disabled_at is null and 'job.' || job.state = any(endpoint.event_types)
    and (endpoint.operations is null or job.operation = any(endpoint.operations))
    and (job.webhook_endpoint_id is null or job.webhook_endpoint_id = endpoint.id)
    and job.operation <> ${sql.lit(deliveryName)}
) as endpoints`

/**
 * Enqueues the deliveries of jobs that end in the transaction, so that they are told if and only if they have ended.
 *
 * @returns the operations whose workers to wake after the commit
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
