import type { FastifyReply, FastifyRequest } from 'fastify'
import type { AcceptOutcome } from '../../accept/accept.ts'
import { fingerprintOf, type Idempotency } from '../../accept/fingerprint.ts'
import { parseIdempotencyKey } from '../../accept/idempotency-key.ts'
import { ProblemError } from '../../errors.ts'
import { findJob } from '../../jobs/read.ts'
import type { KeyRing } from '../../primitives/key-ring.ts'
import { visibleJobs } from '../access.ts'
import type { Service } from '../service.ts'
import { headerLines } from './headers.ts'
import { pathOf, queryOf } from './request-target.ts'
import { sendAccepted } from './send-accepted.ts'

/**
 * Reads the Idempotency-Key of a request and computes its fingerprint. Returns undefined if there is no key.
 *
 * @param options.includeBody whether the fingerprint includes the body
 * @param options.body the parsed body; default: `request.body`
 * @param options.keyRing for an operation that seals members of the body
 * @throws ProblemError invalid-idempotency-key
 */
export function idempotencyOf(
  request: FastifyRequest,
  options: { includeBody: boolean; body?: unknown; keyRing?: KeyRing | undefined },
): Idempotency | undefined {
  const key = parseIdempotencyKey(headerLines(request, 'idempotency-key'))
  if (!key) return undefined
  const mediaType = request.headers['content-type']?.split(';')[0]?.trim().toLowerCase() ?? ''
  const parts = {
    method: request.method,
    path: pathOf(request),
    query: queryOf(request),
    ...(options.includeBody ? { mediaType, body: options.body ?? request.body } : { mediaType: '', body: undefined }),
  }
  return { key, ...fingerprintOf(parts, options.keyRing) }
}

/**
 * Answers a request with its job: a new job, or the job of an earlier request.
 *
 * @throws ProblemError idempotency-key-reused, or idempotency-key-locked if the record of the job expired after the key
 *   was looked up
 */
export async function sendOutcome(
  service: Service,
  reply: FastifyReply,
  outcome: AcceptOutcome,
): Promise<FastifyReply> {
  if (outcome.kind === 'key-reused') throw new ProblemError('idempotency-key-reused')
  if (outcome.kind !== 'replayed') return sendAccepted(service, reply, outcome.job)
  const found = await findJob(service.database.kysely, outcome.jobId, visibleJobs(reply.request))
  if (typeof found === 'string') {
    throw new ProblemError('idempotency-key-locked', 'The job for this Idempotency-Key has just expired', {
      retryAfterSeconds: 1,
    })
  }
  return sendAccepted(service, reply.header('idempotent-replayed', 'true'), found.job)
}
