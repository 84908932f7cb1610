import { sql } from 'kysely'
import type { Logger } from 'pino'
import { registerCommitCheck } from '../db/commit-check.ts'
import type { Database } from '../db/database.ts'
import { type LockWait, setLockTimeout } from '../db/locks.ts'
import type { Notifier } from '../db/notifier.ts'
import { runWithGenericPlan } from '../db/plan-settings.ts'
import { errorCode, isContention, isLostConnection, isOutage, sqlstate } from '../db/sqlstate.ts'
import { requestPolicy, transact } from '../db/transaction.ts'
import type { Retries } from '../db/transaction-retry.ts'
import type { AnyTransaction, Operation } from '../operation.ts'
import { runBisecting } from '../primitives/bisect.ts'
import { messageOf, storableMessage } from '../primitives/error-text.ts'
import { abandonJobs, type EndingJob } from './abandon.ts'
import { waitForSiblings } from './relatives.ts'
import { noSeals, type Seals } from './seals.ts'

export interface EndingsOptions {
  database: Database
  /** All operations of the app, by name. */
  operations: ReadonlyMap<string, Operation>
  /** Required for operations that seal members. */
  seals?: Seals
  notifier: Notifier
  log: Pick<Logger, 'error'>
  /** Called after the commit that ends jobs of an operation. */
  onEnded?(operation: Operation, jobs: readonly EndingJob[]): void
  /** Called when the `abandon` of an operation has failed for a job. */
  onFailure?(operation: Operation): void
}

/** Ends the jobs in `accepted.ending`: the jobs whose end is decided, and whose operation has `abandon`. */
export interface Endings {
  /** Ends all jobs that are due. The jobs for which `abandon` fails are due again after a pause. */
  completeDue(): Promise<void>
  /**
   * Ends a job, if its end is decided. If another process is ending the job, waits for it.
   *
   * @throws Error when the job stays locked for more than 5 seconds
   */
  complete(operation: Operation, jobId: string): Promise<void>
}

/** Maximum number of jobs that end in one transaction. */
const maxBatchSize = 100
/** How long to wait for another process that ends a job. */
const lockTimeoutMs = 5_000
/** Maximum number of jobs that one search returns. */
const maxFound = 1_000

/** Several processes may call the methods for the same jobs. Each job ends in one of them. */
export function createEndings(options: EndingsOptions): Endings {
  return {
    complete: async (operation, id) => void (await completeOrPostpone(options, operation, [id], 'wait')),
    async completeDue() {
      let found: DueEnding[]
      let completed: number
      do {
        completed = 0
        found = await findDue(options)
        for (const [name, rows] of Map.groupBy(found, ({ operation }) => operation)) {
          const ids = rows.map(({ job_id }) => job_id)
          completed += await completeOrPostpone(options, options.operations.get(name) as Operation, ids, 'skip')
        }
        // If another process has locked all of these jobs, it completes them.
      } while (found.length === maxFound && completed > 0)
    },
  }
}

/**
 * Ends jobs in transactions of up to {@link maxBatchSize} jobs. If a transaction fails, bisects it, so that only the
 * jobs for which `abandon` fails are postponed.
 *
 * @returns the number of jobs that have ended or were postponed
 * @throws the error of an outage, after which the next search tries again
 */
async function completeOrPostpone(
  options: EndingsOptions,
  operation: Operation,
  ids: readonly string[],
  lockWait: LockWait,
): Promise<number> {
  let completed = 0
  let outage: unknown
  const batchSize = operation.oneByOne ? 1 : maxBatchSize
  for (let first = 0; first < ids.length && !outage; first += batchSize) {
    await runBisecting(ids.slice(first, first + batchSize), {
      async run(some) {
        if (!outage) completed += await completeTogether(options, operation, some, lockWait)
      },
      canSplit: (error) => !isInfrastructure(error),
      async onFailure([id], error) {
        if (isInfrastructure(error)) outage = error
        else
          completed += await postpone(options, operation, id as string, error).catch((err) => {
            outage = err
            return 0
          })
      },
    })
  }
  if (outage) throw outage
  return completed
}

/** These errors say nothing about `abandon`. */
const isInfrastructure = (error: unknown) => isOutage(error) || isLostConnection(error) || isContention(error)

interface DueEnding {
  operation: string
  job_id: string
}

async function findDue({ database, operations }: EndingsOptions): Promise<DueEnding[]> {
  const statement = sql<DueEnding>`
    select ending.operation, ending.job_id from unnest(${[...operations.keys()]}::text[]) as known (name)
    cross join lateral (
      select operation, job_id from accepted.ending where operation = known.name and due_at <= now()
      order by due_at limit ${maxFound}
    ) ending
    limit ${maxFound}`
  return (await runWithGenericPlan(database.kysely, statement)).rows
}

async function completeTogether(
  options: EndingsOptions,
  operation: Operation,
  ids: readonly string[],
  lockWait: LockWait,
): Promise<number> {
  const { database, seals = noSeals, notifier, onEnded } = options
  const work = async (kyselyTrx: unknown, retries: Retries) => {
    const trx = kyselyTrx as AnyTransaction
    if (lockWait === 'wait') await sql`select ${setLockTimeout(lockTimeoutMs)}`.execute(trx)
    if (retries.contention > 0) await waitForSiblings(trx, ids)
    const { rows } = await sql<EndingJob & { transaction_id: string }>`
      select * from accepted.lock_endings(${ids}::uuid[], ${lockWait === 'wait'})`.execute(trx)
    const [first] = rows
    if (!first) return []
    const jobs = rows.map(({ transaction_id: _, ...job }) => job)
    await abandonJobs(trx, operation, jobs, seals)
    await sql`select accepted.complete_ends(${jobs.map(({ id }) => id)}::uuid[])`.execute(trx)
    // Checks deferred constraints here, so that a violation fails this statement and not the COMMIT.
    await sql`set constraints all immediate`.execute(trx)
    const commitProof = sql`select from accepted.job where id = ${first.id} and ended_at is not null`
    registerCommitCheck(trx, { transactionId: first.transaction_id, commitProof })
    return jobs
  }
  const isRetryable = (error: unknown) => errorCode(error) !== sqlstate.lockNotAvailable
  const ended = await transact(database, work, { ...requestPolicy, isRetryable })
  notifier.notify(
    'status',
    ended.map(({ id }) => id),
  )
  if (ended.length > 0) onEnded?.(operation, ended)
  return ended.length
}

async function postpone(options: EndingsOptions, operation: Operation, id: string, error: unknown): Promise<number> {
  const { database, log, onFailure } = options
  const message = storableMessage(messageOf(error))
  const { rows } = await sql<{ failures: number | null }>`
    select accepted.postpone_ending(${id}, ${message}) as failures`.execute(database.kysely)
  const failures = rows[0]?.failures
  // Another process has ended the job in the meantime.
  if (typeof failures !== 'number') return 0
  log.error({ err: error, job: id, operation: operation.name, failures }, abandonFailed)
  onFailure?.(operation)
  return 1
}

/** The message of the log. */
export const abandonFailed = 'abandon failed, so the job does not end; trying again'
