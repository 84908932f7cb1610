import type { BlockList } from 'node:net'
import type { Kysely } from 'kysely'
import { Webhook } from 'standardwebhooks'
import type { Tables } from '../../src/db/tables.ts'
import { cloudEventType, testEvent, toCloudEvent } from '../../src/jobs/cloud-event.ts'
import { readJob } from '../../src/jobs/read.ts'
import type { ShownResults } from '../../src/jobs/shown-results.ts'
import type { Site } from '../../src/jobs/site.ts'
import { type deliverWebhook, webhookIdOf } from '../../src/jobs/webhook-delivery.ts'
import type { KeyRing } from '../../src/primitives/key-ring.ts'
import { JobFailed } from '../errors.ts'
import type { PerformingJob } from '../running-job.ts'

export interface DeliveryOptions {
  db: Kysely<Tables>
  /** The URLs that the links in deliveries start with. */
  site: Site
  results: ShownResults
  /** Private addresses that webhooks may call. */
  allow: BlockList
  /** Decrypt the signing secrets. */
  keys: KeyRing | undefined
}

export type Delivery = PerformingJob<typeof deliverWebhook>

/** What is posted to an endpoint. */
export interface Message {
  headers: Record<string, string>
  body: string
  /** Whether the body contains members that are sealed in the database. */
  hasOpened: boolean
}

/**
 * Makes the signed message of a delivery (Standard Webhooks, CloudEvents 1.0). Its `webhook-id` stays the same in all
 * attempts, retries and repetitions, so that the endpoint can detect duplicates.
 *
 * @param secrets each makes one signature
 */
export async function makeMessage(
  options: DeliveryOptions,
  { id: deliveryId, idempotencyKey, traceparent, tracestate, payload: { endpointId, jobId } }: Delivery,
  secrets: readonly string[],
): Promise<Message> {
  const { event, hasOpened } =
    jobId === undefined
      ? { event: testEvent(deliveryId, endpointId, options.site), hasOpened: false }
      : await endOf(options, jobId)
  const body = JSON.stringify(event)
  const now = new Date()
  const webhookId = jobId === undefined ? idempotencyKey : webhookIdOf(endpointId, jobId)
  const signed = {
    'content-type': cloudEventType,
    'user-agent': 'accepted',
    ...(traceparent && { traceparent }),
    ...(tracestate && { tracestate }),
    'webhook-id': webhookId,
    'webhook-timestamp': String(Math.floor(now.getTime() / 1000)),
    'webhook-signature': secrets.map((secret) => new Webhook(secret).sign(webhookId, now, body)).join(' '),
  }
  return { headers: signed, body, hasOpened }
}

async function endOf({ db, site, results }: DeliveryOptions, jobId: string) {
  const job = await readJob(db, jobId)
  if (!job) throw new JobFailed('job-expired', 'The record of the job has expired')
  // A webhook contains what the owner of the job sees.
  const result = results.show(job, job.principal, job.result)
  return { event: toCloudEvent(job, site, undefined, result), hasOpened: result !== job.result }
}
