import type { FailedChild } from '../db/tables.ts'
import type { Job } from './job.ts'
import { jobErrors } from './job-errors.ts'
import type { Monitor, Progress } from './monitor-schema.ts'
import { childrenUrl, monitorUrl, resultUrl, type Site } from './site.ts'
import { isFinal } from './status.ts'

function linksOf({ id, children }: Job, site: Site): Monitor['links'] {
  const self = monitorUrl(site, id)
  return {
    self,
    result: resultUrl(site, id),
    events: `${self}/events`,
    cancel: `${self}/cancel`,
    retry: `${self}/retry`,
    ...(children && { children: childrenUrl(site, id) }),
  }
}

/**
 * Makes the HTTP representation of a job.
 *
 * @param site the URLs that the links start with
 * @param estimate when the job will probably end
 * @param result what to show as the result
 */
export function toMonitor(job: Job, site: Site, estimate?: Date, result: unknown = job.result): Monitor {
  const succeeded = job.status === 'succeeded'
  return {
    id: job.id,
    operation: job.operation,
    status: job.status,
    createdAt: job.created_at.toISOString(),
    ...(job.started_at && { startedAt: job.started_at.toISOString() }),
    updatedAt: job.updated_at.toISOString(),
    ...(job.ended_at && { endedAt: job.ended_at.toISOString() }),
    expiresAt: job.expires_at.toISOString(),
    ...toProgress(job, estimate),
    attempt: job.attempt,
    maxAttempts: job.max_attempts,
    cancelRequested: job.cancel_requested,
    ...(succeeded && job.resource !== null && { resourceLocation: toAbsoluteUrl(job.resource, site) }),
    ...(succeeded && result !== null && { result }),
    ...(job.error && { error: publicError(job.id, job.error, site) }),
    ...(job.coalesced > 0 && { coalesced: job.coalesced }),
    ...(job.retry_of && { retryOf: job.retry_of }),
    ...(job.parent && { parent: job.parent }),
    ...(job.children && { children: job.children }),
    ...(job.waiting_for && { waitingFor: job.waiting_for }),
    ...(job.next_attempt_at && { nextAttemptAt: job.next_attempt_at.toISOString() }),
    ...(job.last_error && { lastError: publicAttemptError(job.id, job.last_error, site) }),
    links: linksOf(job, site),
  }
}

/** Makes the progress members of a job's representation. */
export const toProgress = (job: Job, estimate?: Date): Progress => ({
  ...(job.percent !== null && { percentComplete: job.percent }),
  ...(job.message !== null && { message: job.message }),
  ...(estimate && { estimatedCompletionAt: estimate.toISOString() }),
  sequence: Number(job.sequence),
})

// Matches what a URI must not contain (RFC 3986, section 2): characters that are neither reserved nor unreserved, and
// percent signs that are not followed by two hex digits.
const notAllowedInUri = /%(?![\da-f]{2})|[^\w\-.~:/?#[\]@!$&'()*+,;=%]/giu

/** URLs that run scripts when a page links to them. As a resource, they are paths, although nothing is there. */
const scriptProtocols = ['javascript:', 'data:', 'vbscript:', 'blob:']

/**
 * Makes the absolute URI of a resource. Encodes the characters that a URI must not contain. Keeps existing
 * percent-encoding.
 *
 * @param resource a path below the URL of the site, or the URL of another service
 */
export function toAbsoluteUrl(resource: string, { url }: Site): string {
  const encoded = resource.replace(notAllowedInUri, encodeURIComponent)
  // A path is appended, not resolved, because a path that starts with `//` would resolve to another host. Brackets are
  // encoded, because only a host may contain brackets.
  if (encoded.startsWith('/')) return url + encoded.replace(/[[\]]/g, encodeURIComponent)
  const parsed = URL.parse(encoded) ?? URL.parse(encoded, `${url}/`)
  return parsed && scriptProtocols.includes(parsed.protocol) ? `${url}/${encoded}` : (parsed?.href ?? encoded)
}

/** Leaves out what a handler did not declare with `JobFailed`: the text may name hosts, paths or other people's rows. */
function publicError(id: string, error: NonNullable<Job['error']>, site: Site): NonNullable<Monitor['error']> {
  const { code, message, child, details = child ? [toDetail(child, site)] : [] } = error
  if (error.public) return { code, message, ...(details.length > 0 && { details: [...details] }) }
  const sentence = Object.hasOwn(jobErrors, code) ? jobErrors[code] : undefined
  if (sentence !== undefined) return { code, message: sentence, ...(details.length > 0 && { details: [...details] }) }
  return { code: 'handler-error', message: `The job failed. Its id is ${id}` }
}

/** Describes a child that keeps its parent from succeeding. */
const toDetail = ({ id, operation, status, error }: FailedChild, site: Site) => ({
  ...{ id, href: monitorUrl(site, id), operation, status },
  ...(error && { error: publicError(id, error, site) }),
})

/** Like {@link publicError}, for an attempt: the job has not failed yet. */
function publicAttemptError(
  id: string,
  error: NonNullable<Job['error']>,
  site: Site,
): NonNullable<Monitor['lastError']> {
  const { code, message } = publicError(id, error, site)
  return { code, message: code === 'handler-error' && !error.public ? 'The attempt failed' : message }
}

const maxRetryAfterSeconds = 30

/**
 * Returns the seconds for `Retry-After`: the estimated remaining time, or the time until the next attempt (1 to 30); 1
 * without an estimate. Returns undefined once the job has ended.
 */
export function retryAfterSeconds(job: Job, estimate?: Date, now = Date.now()): number | undefined {
  if (isFinal(job.status)) return undefined
  const then = estimate ?? job.next_attempt_at
  const remaining = then ? Math.ceil((then.getTime() - now) / 1000) : 1
  return Math.min(Math.max(remaining, 1), maxRetryAfterSeconds)
}
