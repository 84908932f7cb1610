import Type, { type Static } from 'typebox'
import type { Job } from './job.ts'
import { isFinal } from './state.ts'

const Timestamp = (description: string) => Type.String({ format: 'date-time', description })
const Url = (description: string) => Type.String({ format: 'uri', description })

/** The status of a job on the wire. Members that have no value are absent. */
export const Monitor = Type.Object(
  {
    id: Type.String({ format: 'uuid', description: 'UUIDv7' }),
    operation: Type.String(),
    status: Type.Enum(['queued', 'running', 'succeeded', 'failed', 'canceled']),
    createdAt: Timestamp('When the request was accepted'),
    startedAt: Type.Optional(Timestamp('When the first attempt began')),
    updatedAt: Timestamp('When sequence last grew'),
    endedAt: Type.Optional(Timestamp('When the job reached its final state')),
    expiresAt: Timestamp('From then on the record is gone (410); set anew when the job ends'),
    percentComplete: Type.Optional(
      Type.Integer({ minimum: 0, maximum: 100, description: 'Never decreases; absent when unknown' }),
    ),
    message: Type.Optional(Type.String({ description: 'Progress in words' })),
    estimatedCompletionAt: Type.Optional(
      Timestamp('While running: by its own progress, else by how long others of its operation ran'),
    ),
    attempt: Type.Integer({ minimum: 0, description: 'From 1; 0 until first claimed' }),
    maxAttempts: Type.Integer({ minimum: 1 }),
    sequence: Type.Integer({ minimum: 1, description: 'Grows with every visible change' }),
    cancelRequested: Type.Boolean(),
    resourceLocation: Type.Optional(Url('Once succeeded, when the operation names a resource')),
    result: Type.Optional(Type.Unknown({ description: 'Once succeeded, when the operation returns one' })),
    error: Type.Optional(
      Type.Object(
        {
          code: Type.String(),
          message: Type.String(),
          details: Type.Optional(Type.Array(Type.Unknown())),
        },
        { description: 'Once failed' },
      ),
    ),
    retryOf: Type.Optional(Type.String({ format: 'uuid' })),
    links: Type.Object({
      self: Url('The monitor'),
      result: Url('The result'),
      events: Url('Server-sent events: every change until the end'),
      cancel: Url('POST here to cancel'),
      retry: Url('POST here to run it again as a new job, once failed or canceled'),
    }),
  },
  { title: 'Job', description: 'The status of a job' },
)

export type Monitor = Static<typeof Monitor>

/** What a `progress` event says: the members of the monitor that a report of progress changes. */
export const Progress = Type.Pick(Monitor, ['percentComplete', 'message', 'estimatedCompletionAt', 'sequence'])

export type Progress = Static<typeof Progress>

/** The monitor: 200 as long as the record exists. The result: 202 while pending, then where the job led. */
export const monitorPath = (id: string): string => `/jobs/${id}`
export const resultPath = (id: string): string => `${monitorPath(id)}/result`

function linksOf(id: string, origin: string): Monitor['links'] {
  const self = origin + monitorPath(id)
  return {
    self,
    result: origin + resultPath(id),
    events: `${self}/events`,
    cancel: `${self}/cancel`,
    retry: `${self}/retry`,
  }
}

/**
 * The representation of a job.
 *
 * @param origin scheme and host of the links, without a slash at the end
 * @param estimate when it will probably have ended
 */
export function toMonitor(job: Job, origin: string, estimate?: Date): Monitor {
  const succeeded = job.state === 'succeeded'
  return {
    id: job.id,
    operation: job.operation,
    status: job.state,
    createdAt: job.created_at.toISOString(),
    ...(job.started_at && { startedAt: job.started_at.toISOString() }),
    updatedAt: job.updated_at.toISOString(),
    ...(job.ended_at && { endedAt: job.ended_at.toISOString() }),
    expiresAt: job.expires_at.toISOString(),
    ...toProgress(job, estimate),
    attempt: job.attempt,
    maxAttempts: job.max_attempts,
    cancelRequested: job.cancel_requested,
    ...(succeeded && job.resource !== null && { resourceLocation: absolute(job.resource, origin) }),
    ...(succeeded && job.result !== null && { result: job.result }),
    ...(job.error && { error: publicError(job.error) }),
    ...(job.retry_of && { retryOf: job.retry_of }),
    links: linksOf(job.id, origin),
  }
}

/** How far a job is. */
export const toProgress = (job: Job, estimate?: Date): Progress => ({
  ...(job.percent !== null && { percentComplete: job.percent }),
  ...(job.message !== null && { message: job.message }),
  ...(estimate && { estimatedCompletionAt: estimate.toISOString() }),
  sequence: Number(job.sequence),
})

// RFC 3986, section 2: neither reserved nor unreserved, and a percent sign that begins no triplet.
const notInUri = /%(?![\da-f]{2})|[^\w\-.~:/?#[\]@!$&'()*+,;=%]/giu

/** Where a resource is, as a URI; it may also be an address of another service. What is encoded already stays so. */
export function absolute(resource: string, origin: string): string {
  const encoded = resource.replace(notInUri, encodeURIComponent)
  // Put together, for by itself a path that begins with `//` names a host. Brackets are for hosts only.
  if (encoded.startsWith('/')) return origin + encoded.replace(/[[\]]/g, encodeURIComponent)
  return URL.parse(encoded, origin)?.href ?? encoded
}

const publicError = ({ code, message, details }: NonNullable<Job['error']>) => ({
  code,
  message,
  ...(details && details.length > 0 && { details: [...details] }),
})

/** Asking again is worth the wait after so many seconds, at most. */
const longestRetryAfter = 30

/** Seconds until it is worth asking again: what remains by the estimate, 1 without one; none when the job has ended. */
export function retryAfterSeconds(job: Job, estimate?: Date, now = Date.now()): number | undefined {
  if (isFinal(job.state)) return undefined
  const remaining = estimate ? Math.ceil((estimate.getTime() - now) / 1000) : 1
  return Math.min(Math.max(remaining, 1), longestRetryAfter)
}
