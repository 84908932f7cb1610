import type { FastifyRequest } from 'fastify'
import { fingerprint, parseIdempotencyKey } from '../../accept/idempotency-key.ts'
import { ProblemError } from '../../errors.ts'
import type { Job } from '../../jobs/job.ts'
import { findJob } from '../../jobs/read.ts'
import type { Service } from '../service.ts'
import { headerLines } from './headers.ts'
import { pathOf, queryOf } from './request-target.ts'

/** The idempotency key of a request and its fingerprint. A repeated request must have the same fingerprint. */
export interface Idempotency {
  key: string
  fingerprint: Buffer
}

/**
 * Reads the Idempotency-Key of a request and computes its fingerprint. Returns undefined if there is no key.
 *
 * @param options.includeBody whether the fingerprint includes the body
 * @param options.body the parsed body; default: `request.body`
 * @throws ProblemError invalid-idempotency-key
 */
export function idempotencyOf(
  request: FastifyRequest,
  options: { includeBody: boolean; body?: unknown },
): Idempotency | undefined {
  const key = parseIdempotencyKey(headerLines(request, 'idempotency-key'))
  if (!key) return undefined
  const mediaType = request.headers['content-type']?.split(';')[0]?.trim().toLowerCase() ?? ''
  return {
    key,
    fingerprint: fingerprint({
      method: request.method,
      path: pathOf(request),
      query: queryOf(request),
      ...(options.includeBody ? { mediaType, body: options.body ?? request.body } : { mediaType: '', body: undefined }),
    }),
  }
}

/**
 * Reads the job that an earlier request with the same idempotency key created.
 *
 * @throws ProblemError idempotency-key-locked, if the record of the job expired after the key was looked up
 */
export async function findReplayedJob({ database }: Service, id: string, principal: string): Promise<Job> {
  const found = await findJob(database.kysely, id, principal)
  if (typeof found === 'string') {
    throw new ProblemError('idempotency-key-locked', 'The job for this Idempotency-Key has just expired', {
      retryAfterSeconds: 1,
    })
  }
  return found.job
}

// W3C Trace Context, section 3.2.2.
const traceparentPattern = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/

/** Reads the header `traceparent` of a request. Returns undefined if it is absent or malformed. */
export function traceparentOf({ headers }: FastifyRequest): string | undefined {
  const { traceparent } = headers
  return typeof traceparent === 'string' && traceparentPattern.test(traceparent) ? traceparent : undefined
}
