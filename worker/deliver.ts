import type { BlockList } from 'node:net'
import { HTTP } from 'cloudevents'
import type { Kysely } from 'kysely'
import { Webhook } from 'standardwebhooks'
import { errorCode } from '../src/db/sqlstate.ts'
import type { Tables } from '../src/db/tables.ts'
import { toCloudEvent } from '../src/jobs/cloud-event.ts'
import { readJob } from '../src/jobs/read.ts'
import type { deliverWebhook } from '../src/jobs/webhook-delivery.ts'
import { disableEndpoint, findTarget, type Target } from '../src/jobs/webhook-endpoint.ts'
import { AttemptFailed, JobFailed } from './failure.ts'
import type { PerformHandler, PerformingJob } from './handlers.ts'
import { exchangeTimeout, post } from './post.ts'

export interface DeliveryOptions {
  db: Kysely<Tables>
  /** Scheme and host of the links in what is delivered. */
  origin: string
  /** Addresses that may be called though they are private. */
  allow: BlockList
}

type Delivery = PerformingJob<typeof deliverWebhook>

const minute = 60
const hour = 60 * minute
const day = 24 * hour

/** Before each attempt but the first, in seconds. */
const pauses = [5, 5 * minute, 30 * minute, 2 * hour, 5 * hour, 10 * hour, day]

/** Deliveries under way at once in this process; one waits for its endpoint most of the time. */
const concurrency = 50

/** Makes the handler that tells an endpoint of the end of a job (Standard Webhooks, CloudEvents 1.0). */
export function deliveryHandler(options: DeliveryOptions): PerformHandler<typeof deliverWebhook> {
  return {
    concurrency,
    async perform(job) {
      const target = await findLiveTarget(options, job)
      const told = await readJob(options.db, job.payload.jobId)
      if (!told) throw new JobFailed('job-expired', 'The record of the job has expired')
      const { headers, body } = HTTP.structured(toCloudEvent(told, options.origin))
      const { status, retryAfter } = await send(options, job, target, headers as Record<string, string>, body as string)
      if (status >= 200 && status <= 299) return
      if (status === 410) await disable(options, job)
      throw new AttemptFailed('endpoint-refused', `The endpoint answered ${status}`, pause(job, retryAfter))
    },
  }
}

async function findLiveTarget({ db }: DeliveryOptions, { payload }: Delivery): Promise<Target> {
  const target = await findTarget(db, payload.endpointId)
  if (!target) throw new JobFailed('endpoint-removed', 'The webhook endpoint has been removed')
  if (target.disabled) throw new JobFailed('endpoint-disabled', 'The webhook endpoint is disabled')
  return target
}

/** Signs and posts. The id is the same for every attempt, and when the delivery is redriven, so that the endpoint can tell a repetition. */
async function send(
  { allow }: DeliveryOptions,
  job: Delivery,
  { url, secrets }: Target,
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
    const answer = await post({ url, headers: signed, body, allow, signal: job.signal })
    return { status: answer.status, retryAfter: parseRetryAfter(answer.headers['retry-after']) }
  } catch (cause) {
    const [code, message] = describe(cause as Error)
    throw new AttemptFailed(code, message, pause(job), { cause })
  }
}

function describe(error: Error): [code: string, message: string] {
  if (error.name === 'AbortError') {
    return ['endpoint-timeout', `The endpoint did not answer within ${exchangeTimeout / 1000} s`]
  }
  if (/ is not allowed\. Because/.test(error.message)) {
    return ['address-refused', 'The endpoint is at a private address, which WEBHOOK_ALLOW does not cover']
  }
  // Of several addresses none answered, and the error of them all has no words.
  return ['endpoint-unreachable', error.message || `${errorCode(error)}`]
}

// RFC 9110, section 15.5.11: likely to be permanent.
async function disable({ db }: DeliveryOptions, { payload }: Delivery): Promise<never> {
  await db.transaction().execute((trx) => disableEndpoint(trx, payload.endpointId, 'It answered 410 Gone'))
  throw new JobFailed('endpoint-gone', 'The endpoint answered 410; it is disabled')
}

/** Seconds before the next attempt: some of them come sooner and some later, so that not all come at once. */
function pause({ attempt }: Delivery, retryAfter = 0): number {
  const planned = pauses[attempt - 1] ?? day
  return Math.max(planned * (0.9 + 0.2 * Math.random()), retryAfter)
}

/** Retry-After in seconds (RFC 9110, section 10.2.3), a day at most; 0 when it says nothing. */
function parseRetryAfter(value: string | undefined): number {
  if (value === undefined) return 0
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000
  return Math.min(Math.max(seconds || 0, 0), day)
}
