import { sql } from 'kysely'
import Type, { type Static } from 'typebox'
import { type AnyTransaction, defineOperation, deliveryName } from '../operation.ts'
import { uuid7 } from '../primitives/uuid.ts'
import type { PgBoss } from '../queue/boss.ts'
import { enqueue } from './enqueue.ts'

/** The outcome of an attempt to deliver: the result of a delivery, and the details of the error of a failed attempt. */
export const DeliveryReport = Type.Object({
  jobId: Type.Optional(Type.String({ description: 'The job that was reported; absent for a test' })),
  status: Type.Optional(Type.Integer({ description: 'The HTTP status; absent if there was no answer' })),
  durationMs: Type.Integer({ description: 'From the lookup of the host to the answer' }),
  answer: Type.Optional(Type.String({ description: 'The beginning of the answer, without secrets' })),
})

export type DeliveryReport = Static<typeof DeliveryReport>

/** Notifies one webhook endpoint of the outcome of one job. Each delivery is a job with its own retries. */
export const deliverWebhook = defineOperation({
  name: deliveryName,
  summary: 'Notify a webhook endpoint of the outcome of a job',
  input: Type.Object({ endpointId: Type.String(), jobId: Type.Optional(Type.String()) }),
  result: DeliveryReport,
  retry: { limit: 7 },
  // Deliveries are claimed in turn over their endpoints.
  group: ({ endpointId }) => endpointId,
  timeoutSeconds: 20,
})

/** A job that ends in the transaction, with the webhook endpoints to notify. */
export interface EndedJob {
  id: string
  endpoints: string[] | null
  traceparent: string | null
  tracestate: string | null
  /** Whether the job has a parent, or other jobs wait for it. */
  has_relatives: boolean
}

/**
 * The `webhook-id` of the event that a job has ended, which stays the same when it is delivered again. A job ends once.
 */
export const webhookIdOf = (endpointId: string, jobId: string): string => `${jobId}-${endpointId}`

/**
 * The column `endpoints` of {@link EndedJob}, and the trace context of the deliveries. In the `returning` list of the
 * statement that ends the jobs, they need no round trip of their own.
 */
export const matchingEndpoints = sql<string[] | null>`(
  select array_agg(endpoint.id) from accepted.webhook_endpoint endpoint
  where endpoint.disabled_at is null and 'job.' || job.status = any(endpoint.event_types)
    and (endpoint.operations is null or job.operation = any(endpoint.operations))
    and (endpoint.principal is null or endpoint.principal = job.principal)
    and (job.webhook_endpoint_id is null or job.webhook_endpoint_id = endpoint.id)
    and job.operation <> ${sql.lit(deliveryName)}
) as endpoints, job.traceparent, job.tracestate`

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
  const deliveries = ended.flatMap(({ id, endpoints, traceparent, tracestate }) =>
    (endpoints ?? []).map((endpointId) => ({
      id: uuid7(),
      operation: deliverWebhook,
      payload: { endpointId, jobId: id },
      principal: `webhook:${endpointId}`,
      traceparent: traceparent ?? undefined,
      tracestate: tracestate ?? undefined,
    })),
  )
  if (deliveries.length === 0) return []
  await enqueue(boss, trx, deliveries)
  return [deliverWebhook.name]
}
