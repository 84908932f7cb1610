import type { FastifyReply, FastifyRequest } from 'fastify'
import { ProblemError } from '../../errors.ts'

/** Maximum size of the body of a batch, in bytes. */
export const maxBatchBytes = 16 * 1024 * 1024

/** Maximum size of all batches that a process receives and stores at the same time, in bytes. */
const maxBytes = 8 * maxBatchBytes
const maxBytesOfPrincipal = 2 * maxBatchBytes

/**
 * Creates an `onRequest` hook that limits how much memory batches take at the same time. It goes by the declared length
 * of a body, before any of the body is received.
 *
 * @throws ProblemError too-many-requests, database-unavailable
 */
export function limitBatches(): (request: FastifyRequest, reply: FastifyReply) => Promise<void> {
  const ofPrincipals = new Map<string, number>()
  let total = 0
  return async ({ headers, principal }, reply) => {
    const length = Number(headers['content-length'] ?? maxBatchBytes)
    // A longer body gets 413 without being received.
    if (length > maxBatchBytes) return
    const ofPrincipal = (ofPrincipals.get(principal) ?? 0) + length
    if (ofPrincipal > maxBytesOfPrincipal) {
      throw new ProblemError('too-many-requests', 'This principal sends too many large batches at the same time', {
        retryAfterSeconds: 1,
      })
    }
    if (total + length > maxBytes) {
      throw new ProblemError('database-unavailable', 'Too many large batches are sent at the same time', {
        retryAfterSeconds: 1,
      })
    }
    const add = (bytes: number) => {
      total += bytes
      const sum = (ofPrincipals.get(principal) ?? 0) + bytes
      if (sum > 0) ofPrincipals.set(principal, sum)
      else ofPrincipals.delete(principal)
    }
    add(length)
    reply.raw.once('close', () => add(-length))
  }
}
