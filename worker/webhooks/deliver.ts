import type { BlockList } from 'node:net'
import { HTTP } from 'cloudevents'
import type { Kysely } from 'kysely'
import { Webhook } from 'standardwebhooks'
import { errorCode } from '../../src/db/sqlstate.ts'
import type { Tables } from '../../src/db/tables.ts'
import { toCloudEvent } from '../../src/jobs/cloud-event.ts'
import type { Job } from '../../src/jobs/job.ts'
import { readJob } from '../../src/jobs/read.ts'
import type { ShownResults } from '../../src/jobs/shown-results.ts'
import type { Site } from '../../src/jobs/site.ts'
import type { deliverWebhook } from '../../src/jobs/webhook-delivery.ts'
import { type DeliveryTarget, disableEndpoint, findDeliveryTarget } from '../../src/jobs/webhook-endpoint.ts'
import { fromStoredSecret } from '../../src/jobs/webhook-secret.ts'
import type { KeyRing } from '../../src/primitives/key-ring.ts'
import { AttemptFailed, JobFailed } from '../errors.ts'
import type { PerformHandler, PerformingJob } from '../handlers.ts'
import { AddressRefused, post, postTimeoutMs } from './post.ts'

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

type Delivery = PerformingJob<typeof deliverWebhook>

const minute = 60
const hour = 60 * minute
const day = 24 * hour

/** The delay before each retry, in seconds. */
const retryDelaysSeconds = [5, 5 * minute, 30 * minute, 2 * hour, 5 * hour, 10 * hour, day]

/** Deliveries mostly wait for their endpoint, so many can run at the same time. */
const maxConcurrentDeliveries = 50

/** Creates the handler that notifies a webhook endpoint of a job's outcome (Standard Webhooks, CloudEvents 1.0). */
export function createDeliveryHandler(options: DeliveryOptions): PerformHandler<typeof deliverWebhook> {
  return {
    concurrency: maxConcurrentDeliveries,
    async perform(job) {
      const target = await findEnabledTarget(options, job)
      const secrets = readSecrets(options, job, target)
      const endedJob = await readJob(options.db, job.payload.jobId)
      if (!endedJob) throw new JobFailed('job-expired', 'The record of the job has expired')
      const { headers, body } = HTTP.structured(
        toCloudEvent(endedJob, options.site, undefined, resultOf(options, endedJob)),
      )
      const { status, retryAfter } = await sendDelivery(
        options,
        job,
        { url: target.url, secrets },
        headers as Record<string, string>,
        body as string,
      )
      if (status >= 200 && status <= 299) return
      if (status === 410) await disable(options, job)
      throw new AttemptFailed('endpoint-refused', `The endpoint answered ${status}`, retryDelay(job, retryAfter))
    },
  }
}

/** A webhook contains what the owner of the job sees. */
const resultOf = ({ results }: DeliveryOptions, job: Job) => results.show(job, job.principal, job.result)

async function findEnabledTarget({ db }: DeliveryOptions, { payload }: Delivery): Promise<DeliveryTarget> {
  const target = await findDeliveryTarget(db, payload.endpointId)
  if (!target) throw new JobFailed('endpoint-removed', 'The webhook endpoint has been removed')
  if (target.disabled) throw new JobFailed('endpoint-disabled', 'The webhook endpoint is disabled')
  return target
}

/** An operator can add a missing key, so the delivery is tried again. */
function readSecrets({ keys }: DeliveryOptions, job: Delivery, { secrets }: DeliveryTarget): string[] {
  try {
    return secrets.map((secret) => fromStoredSecret(secret, job.payload.endpointId, keys))
  } catch (cause) {
    const message = `The signing secret of the endpoint cannot be decrypted: ${(cause as Error).message}`
    throw new AttemptFailed('secret-not-readable', message, retryDelay(job), { cause })
  }
}

/**
 * Signs and posts a delivery. The id of the delivery stays the same in all attempts and redrives, so that the endpoint
 * can detect duplicates.
 */
async function sendDelivery(
  { allow }: DeliveryOptions,
  job: Delivery,
  { url, secrets }: Pick<DeliveryTarget, 'url' | 'secrets'>,
  headers: Record<string, string>,
  body: string,
): Promise<{ status: number; retryAfter: number }> {
  const now = new Date()
  const signed = {
    ...headers,
    'user-agent': 'accepted',
    'webhook-id': job.idempotencyKey,
    'webhook-timestamp': String(Math.floor(now.getTime() / 1000)),
    'webhook-signature': secrets.map((secret) => new Webhook(secret).sign(job.idempotencyKey, now, body)).join(' '),
  }
  try {
    const response = await post({ url, headers: signed, body, allow, signal: job.signal })
    return { status: response.status, retryAfter: parseRetryAfter(response.headers['retry-after']) }
  } catch (cause) {
    const [code, message] = describe(cause as Error)
    throw new AttemptFailed(code, message, retryDelay(job), { cause })
  }
}

function describe(error: Error): [code: string, message: string] {
  if (error.name === 'AbortError') {
    return ['endpoint-timeout', `The endpoint did not answer within ${postTimeoutMs / 1000} s`]
  }
  if (error instanceof AddressRefused) return ['address-refused', error.message]
  // When a host has several addresses and none of them can be reached, the error has no message.
  return ['endpoint-unreachable', error.message || `${errorCode(error)}`]
}

// Disables an endpoint that answered 410 Gone. This status is likely to be permanent (RFC 9110, section 15.5.11).
async function disable({ db }: DeliveryOptions, { payload }: Delivery): Promise<never> {
  await db.transaction().execute((trx) => disableEndpoint(trx, payload.endpointId, 'The endpoint answered 410 Gone'))
  throw new JobFailed('endpoint-gone', 'The endpoint answered 410 Gone and is now disabled')
}

/**
 * Returns the pause before the next attempt, in seconds. The jitter of 10 % spreads deliveries that would otherwise
 * retry at the same time.
 */
function retryDelay({ attempt }: Delivery, retryAfter = 0): number {
  const delay = retryDelaysSeconds[attempt - 1] ?? day
  return Math.max(delay * (0.9 + 0.2 * Math.random()), retryAfter)
}

/**
 * Parses a Retry-After header (RFC 9110, section 10.2.3). Returns seconds, at most a day; 0 when the header is absent
 * or invalid.
 */
function parseRetryAfter(value: string | undefined): number {
  if (value === undefined) return 0
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000
  return Math.min(Math.max(seconds || 0, 0), day)
}
