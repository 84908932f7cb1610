import type { FastifyRequest } from 'fastify'
import { passIfRepeated } from '../../accept/backlog.ts'
import { parseIdempotencyKey } from '../../accept/idempotency-key.ts'
import type { Service } from '../service.ts'
import { headerLines } from './headers.ts'

/**
 * Waits for a check of the backlog, like `passIfRepeated`, with the idempotency key of a request.
 *
 * @throws ProblemError what the check has thrown, or invalid-idempotency-key
 */
export const passIfReplayed = ({ database }: Service, request: FastifyRequest, check: Promise<void>): Promise<void> =>
  passIfRepeated(database, request.principal, () => parseIdempotencyKey(headerLines(request, 'idempotency-key')), check)
