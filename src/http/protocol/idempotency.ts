import type { FastifyRequest } from 'fastify'
import { fingerprint, parseIdempotencyKey } from '../../accept/idempotency-key.ts'
import { ProblemError } from '../../errors.ts'
import type { Job } from '../../jobs/job.ts'
import { findJob } from '../../jobs/read.ts'
import type { Service } from '../service.ts'
import { headerLines } from './headers.ts'
import { pathOf } from './problem.ts'

/** The key of a request, and the fingerprint that a repetition must match. */
export interface Idempotency {
  key: string
  fingerprint: Buffer
}

/**
 * Reads the Idempotency-Key of a request.
 *
 * @param options.includeBody whether the fingerprint depends on the body
 * @throws ProblemError invalid-idempotency-key
 */
export function idempotencyOf(request: FastifyRequest, options: { includeBody: boolean }): Idempotency | undefined {
  const key = parseIdempotencyKey(headerLines(request, 'idempotency-key'))
  if (!key) return undefined
  const mediaType = request.headers['content-type']?.split(';')[0]?.trim().toLowerCase() ?? ''
  const path = pathOf(request)
  return {
    key,
    fingerprint: fingerprint({
      method: request.method,
      path,
      query: request.url.slice(path.length + 1),
      ...(options.includeBody ? { mediaType, body: request.body } : { mediaType: '', body: undefined }),
    }),
  }
}

/**
 * Reads the job of an earlier request with the same key.
 *
 * @throws ProblemError idempotency-key-locked, if the job's record expires at this moment
 */
export async function findReplayedJob({ database }: Service, id: string, principal: string): Promise<Job> {
  const found = await findJob(database.kysely, id, principal)
  if (typeof found === 'string') {
    throw new ProblemError('idempotency-key-locked', 'The job of this Idempotency-Key is about to expire', {
      retryAfterSeconds: 1,
    })
  }
  return found.job
}

// W3C Trace Context, section 3.2.2.
const traceparentPattern = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/

/** The `traceparent` header of a request; undefined if it is absent or malformed. */
export function traceparentOf({ headers }: FastifyRequest): string | undefined {
  const { traceparent } = headers
  return typeof traceparent === 'string' && traceparentPattern.test(traceparent) ? traceparent : undefined
}
