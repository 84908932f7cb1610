import type { FastifyRequest } from 'fastify'
import { fingerprint, parseIdempotencyKey } from '../accept/idempotency-key.ts'
import { ProblemError } from '../errors.ts'
import type { Job } from '../jobs/job.ts'
import { findJob } from '../jobs/read.ts'
import { pathOf } from './problem.ts'
import { headerLines } from './request-headers.ts'
import type { Service } from './service.ts'

/** The key of a request, and what makes another request the same one. */
export interface Idempotency {
  key: string
  fingerprint: Buffer
}

/**
 * Reads the Idempotency-Key of a request.
 *
 * @throws ProblemError invalid-idempotency-key
 */
export function idempotencyOf(request: FastifyRequest, options: { bodyCounts: boolean }): Idempotency | undefined {
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
      ...(options.bodyCounts ? { mediaType, body: request.body } : { mediaType: '', body: undefined }),
    }),
  }
}

/** The job that an earlier request with the same key became. */
export async function findReplayed({ database }: Service, id: string, principal: string): Promise<Job> {
  const found = await findJob(database.kysely, id, principal)
  if (typeof found === 'string') {
    throw new ProblemError('idempotency-key-locked', 'The job of this key is just expiring', { retryAfterSeconds: 1 })
  }
  return found.job
}

// W3C Trace Context, section 3.2.2.
const traceparent = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/

/** The `traceparent` of a request, when it is well-formed. */
export function traceOf({ headers }: FastifyRequest): string | undefined {
  const trace = headers.traceparent
  return typeof trace === 'string' && traceparent.test(trace) ? trace : undefined
}
