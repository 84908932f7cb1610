import { errorCode } from '../../src/db/sqlstate.ts'
import { closeBreaker, countFailure } from '../../src/jobs/webhook-breaker.ts'
import type { DeliveryReport, deliverWebhook } from '../../src/jobs/webhook-delivery.ts'
import { type DeliveryTarget, disableEndpoint, findDeliveryTarget } from '../../src/jobs/webhook-endpoint.ts'
import { fromStoredSecret } from '../../src/jobs/webhook-secret.ts'
import { redact } from '../../src/primitives/redact.ts'
import { AttemptFailed, JobFailed } from '../errors.ts'
import type { PerformHandler } from '../handlers.ts'
import { type Delivery, type DeliveryOptions, type Message, makeMessage } from './message.ts'
import { AddressRefused, type PostResponse, post, postTimeoutMs } from './post.ts'
import { parseRetryAfter, retryDelay } from './retry-delay.ts'

/** Deliveries mostly wait for their endpoint, so many can run at the same time. */
const maxConcurrentDeliveries = 100

/** Creates the handler that posts one event to one webhook endpoint. */
export function createDeliveryHandler(options: DeliveryOptions): PerformHandler<typeof deliverWebhook> {
  return {
    concurrency: maxConcurrentDeliveries,
    async perform(job) {
      // The claim marks deliveries that are too many.
      if ('isExcess' in job.payload) {
        throw new JobFailed('endpoint-backlog-full', 'Too many deliveries wait for the webhook endpoint')
      }
      const target = await findEnabledTarget(options, job)
      const message = await makeMessage(options, job, readSecrets(options, job, target))
      try {
        const report = await deliver(options, job, target, message)
        if (target.isFailing && (await closeBreaker(options.db, job.payload.endpointId))) {
          job.log.info({ endpoint: job.payload.endpointId }, 'The webhook endpoint works again')
        }
        return report
      } catch (error) {
        // A job that was canceled, or whose worker stops, says nothing about its endpoint.
        if (!job.signal.aborted) await recordFailure(options, job, target)
        throw error
      }
    },
  }
}

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

/** @throws AttemptFailed, or JobFailed if the endpoint is gone */
async function deliver(
  options: DeliveryOptions,
  job: Delivery,
  { url }: DeliveryTarget,
  { hasOpened, ...message }: Message,
): Promise<DeliveryReport> {
  const startedAt = performance.now()
  const report = (response?: PostResponse): DeliveryReport => ({
    ...(job.payload.jobId !== undefined && { jobId: job.payload.jobId }),
    ...(response && { status: response.status }),
    durationMs: Math.round(performance.now() - startedAt),
    // An endpoint may repeat what it gets, and members that were opened for it must stay sealed in the database.
    ...(response && response.body.length > 0 && !hasOpened && { answer: readable(response.body) }),
  })
  const response = await post({ url, ...message, allow: options.allow, signal: job.signal }).catch((cause) => {
    const [code, text] = describe(cause as Error)
    throw new AttemptFailed(code, text, retryDelay(job), { cause, details: [report()] })
  })
  const { status, headers } = response
  if (status >= 200 && status <= 299) return report(response)
  const details = [report(response)]
  if (status === 410) await disable(options, job, details)
  const delay = retryDelay(job, parseRetryAfter(headers['retry-after']))
  throw new AttemptFailed('endpoint-refused', `The endpoint answered ${status}`, delay, { details })
}

/** Makes the beginning of an answer fit for a table and a terminal. */
const readable = (body: Buffer): string => redact(body.toString('utf8').replaceAll(/\p{Cc}+/gu, ' '))

function describe(error: Error): [code: string, message: string] {
  if (error.name === 'AbortError') {
    return ['endpoint-timeout', `The endpoint did not answer within ${postTimeoutMs / 1000} s`]
  }
  if (error instanceof AddressRefused) return ['address-refused', error.message]
  // When a host has several addresses and none of them can be reached, the error has no message.
  return ['endpoint-unreachable', error.message || `${errorCode(error)}`]
}

// Disables an endpoint that answered 410 Gone. This status is likely to be permanent (RFC 9110, section 15.5.11).
async function disable({ db }: DeliveryOptions, { payload }: Delivery, details: DeliveryReport[]): Promise<never> {
  await db.transaction().execute((trx) => disableEndpoint(trx, payload.endpointId, 'The endpoint answered 410 Gone'))
  throw new JobFailed('endpoint-gone', 'The endpoint answered 410 Gone and is now disabled', { details })
}

async function recordFailure({ db }: DeliveryOptions, job: Delivery, { readAt }: DeliveryTarget): Promise<void> {
  const { endpointId } = job.payload
  const pause = await countFailure(db, endpointId, { id: job.id, startedAt: readAt })
  if (pause === undefined) return
  const message = `Deliveries to the webhook endpoint fail; it gets one at a time, the next in ${Math.ceil(pause)} s`
  job.log.warn({ endpoint: endpointId }, message)
}
