import { sql, type Transaction } from 'kysely'
import { type Actor, setActor } from '../db/actor.ts'
import { setLockTimeout, withLockTimeoutError } from '../db/locks.ts'
import { pipeline } from '../db/pipeline.ts'
import { useGenericPlan } from '../db/plan-settings.ts'
import type { Tables } from '../db/tables.ts'
import { transact } from '../db/transaction.ts'
import { ProblemError } from '../errors.ts'
import type { AnyTransaction } from '../operation.ts'
import type { Core } from './core.ts'

/** How long a caller waits while another transaction locks the job. */
const lockTimeoutMs = 5_000

/**
 * Runs a transaction that locks a job. In this process, the transactions of one job run one after another.
 *
 * @param actor whom the audit names. Undefined for the app itself: the audit then has only the database role.
 * @throws ProblemError job-locked, if another transaction keeps the lock for too long
 */
export function runJobTransaction<Result>(
  { database, mutex }: Core,
  id: string,
  actor: Actor | undefined,
  work: (trx: Transaction<Tables>) => Promise<Result>,
): Promise<Result> {
  const timeoutError = (cause?: unknown) => new ProblemError('job-locked', undefined, { retryAfterSeconds: 1, cause })
  return mutex.runExclusive(`job ${id}`, { timeoutMs: lockTimeoutMs, timeoutError }, () =>
    transact(database, async (trx) => {
      const settings = [setLockTimeout(lockTimeoutMs), ...(actor ? [setActor(actor)] : [])]
      await pipeline(trx as unknown as AnyTransaction, (trx) => [
        sql`select ${sql.join(settings)}`.execute(trx),
        useGenericPlan(trx),
      ])
      return withLockTimeoutError(() => work(trx), timeoutError)
    }),
  )
}
