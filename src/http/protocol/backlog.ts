import type { FastifyRequest } from 'fastify'
import { isKeyTaken, parseIdempotencyKey } from '../../accept/idempotency-key.ts'
import { ProblemError } from '../../errors.ts'
import type { ProblemCode } from '../../problems.ts'
import type { Service } from '../service.ts'
import { headerLines } from './headers.ts'

const backlogCodes: readonly ProblemCode[] = ['backlog-full', 'principal-backlog-full']

/**
 * Waits for a check of the backlog. A request that repeats an earlier one passes even if the backlog is full, because it
 * creates no job.
 *
 * @throws ProblemError what the check has thrown, or invalid-idempotency-key
 */
export async function passIfRepeated(
  { database }: Service,
  request: FastifyRequest,
  check: Promise<void>,
): Promise<void> {
  try {
    await check
  } catch (error) {
    if (!(error instanceof ProblemError) || !backlogCodes.includes(error.code)) throw error
    const key = parseIdempotencyKey(headerLines(request, 'idempotency-key'))
    if (key === undefined || !(await isKeyTaken(database.kysely, request.principal, key))) throw error
  }
}
