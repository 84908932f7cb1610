import type { Database } from '../db/database.ts'
import { ProblemError } from '../errors.ts'
import type { Operation } from '../operation.ts'
import type { ProblemCode } from '../problems.ts'
import { isBacklogFull } from '../queue/due-jobs.ts'
import { isKeyTaken } from './idempotency-key.ts'
import { takePrincipalRoom } from './principal-backlog.ts'

/** How long an answer is reused, in milliseconds. The limit need not be exact. */
const cacheMs = 1_000

const answers = new WeakMap<Database, Map<string, { readAt: number; isFull: Promise<boolean> }>>()

/** Whether {@link assertBacklog} has anything to check. */
export const hasBacklogLimit = ({ maxBacklog, maxBacklogPerPrincipal }: Operation): boolean =>
  maxBacklog !== undefined || maxBacklogPerPrincipal !== undefined

/**
 * Checks that fewer than `maxBacklog` jobs of the operation are waiting, and fewer than `maxBacklogPerPrincipal` jobs of
 * the principal.
 *
 * @throws ProblemError backlog-full, principal-backlog-full
 */
export async function assertBacklog(database: Database, operation: Operation, principal: string): Promise<void> {
  await assertTotal(database, operation)
  await takePrincipalRoom(database, operation, principal)
}

async function assertTotal(database: Database, operation: Operation): Promise<void> {
  if (operation.maxBacklog === undefined) return
  const byOperation = answers.get(database) ?? new Map()
  answers.set(database, byOperation)
  let answer = byOperation.get(operation.name)
  if (!answer || performance.now() - answer.readAt > cacheMs) {
    answer = { readAt: performance.now(), isFull: isBacklogFull(database, operation.name, operation.maxBacklog) }
    // A failed query is not cached, because it would also fail later requests.
    answer.isFull.catch(() => byOperation.delete(operation.name))
    byOperation.set(operation.name, answer)
  }
  if (await answer.isFull) throw new ProblemError('backlog-full', undefined, { retryAfterSeconds: 5 })
}

/**
 * Checks that, with the new jobs of a batch, no more than `maxBacklog` jobs of the operation would wait, and no more than
 * `maxBacklogPerPrincipal` jobs of the principal.
 *
 * @throws ProblemError backlog-full, principal-backlog-full, or invalid-body if they would not fit into an empty backlog
 */
export async function assertRoom(
  database: Database,
  operation: Operation,
  principal: string,
  newJobs: number,
): Promise<void> {
  const { name, maxBacklog = Number.POSITIVE_INFINITY, maxBacklogPerPrincipal = Number.POSITIVE_INFINITY } = operation
  const maxItems = Math.min(maxBacklog, maxBacklogPerPrincipal)
  if (newJobs > maxItems) {
    const keyword = maxItems === maxBacklog ? 'maxBacklog' : 'maxBacklogPerPrincipal'
    const message = `must have at most ${maxItems} items of ${name}, as no more of its jobs may wait`
    throw new ProblemError('invalid-body', undefined, { details: [{ pointer: '/items', keyword, message }] })
  }
  if (operation.maxBacklog !== undefined && (await isBacklogFull(database, name, maxBacklog - newJobs + 1))) {
    throw new ProblemError('backlog-full', undefined, { retryAfterSeconds: 5 })
  }
  await takePrincipalRoom(database, operation, principal, newJobs)
}

const backlogCodes: readonly ProblemCode[] = ['backlog-full', 'principal-backlog-full']

/**
 * Waits for a check of the backlog. A request that repeats an earlier one passes even if the backlog is full, because it
 * creates no job.
 *
 * @param readKey returns the idempotency key of the request
 * @throws ProblemError what the check or `readKey` has thrown
 */
export async function passIfRepeated(
  { kysely }: Database,
  principal: string,
  readKey: () => string | undefined,
  check: Promise<void>,
): Promise<void> {
  try {
    await check
  } catch (error) {
    if (!(error instanceof ProblemError) || !backlogCodes.includes(error.code)) throw error
    const key = readKey()
    if (key === undefined || !(await isKeyTaken(kysely, principal, key))) throw error
  }
}
