import { createBatcher } from '../batcher.ts'
import type { PgBoss } from '../db/boss.ts'
import type { Database } from '../db/database.ts'
import { errorCode, isLostConnection, isOutage, sqlstate } from '../db/sqlstate.ts'
import { transact } from '../db/transaction.ts'
import { ProblemError } from '../errors.ts'
import type { AnyTransaction, Refusal } from '../operation.ts'
import { type AcceptEntry, accept, EntriesRefused, type Outcome } from './accept.ts'
import { keyLocked, lockTimeout } from './idempotency-key.ts'
import { inTime } from './in-time.ts'
import type { Turns } from './turns.ts'

export type Committed = Outcome | { kind: 'refused'; refusal: Refusal }

/** Takes requests and answers each only after its transaction has committed. */
export interface Committer {
  /** @throws ProblemError idempotency-key-locked, database-unavailable when too many requests wait */
  submit(entry: AcceptEntry): Promise<Committed>
}

export interface CommitterOptions {
  database: Database
  boss: PgBoss
  turns: Turns
}

/** Requests in one transaction, at most. */
const batchSize = 128
/** Transactions of batches at once: while one waits for the disk, the other one writes. */
const batchesAtOnce = 2
/** Transactions at once of requests that are accepted alone; the rest of the pool is for everybody else. */
const aloneAtOnce = 4
/** Requests that wait, at most, and how long each waits for its turn, in milliseconds. */
const mostWaiting = 10_000
const longestWait = 5_000
/** How long the work for a batch may take, and for one that is accepted alone, in milliseconds. */
const longestTogether = 2_000
const longestAlone = 30_000

interface Waiting {
  entry: AcceptEntry
  /** Says that it has waited for too long. */
  timer?: NodeJS.Timeout
  isLate?: boolean
  resolve(committed: Committed): void
  reject(error: unknown): void
}

/**
 * Makes the committer of a process. Requests that come while others are being committed are committed together, in one
 * transaction: the cost of a commit is shared. One that would keep the others waiting, for a key or for a lock, is
 * accepted alone; one that fails is found by halving, and fails alone.
 */
export function createCommitter({ database, boss, turns }: CommitterOptions): Committer {
  const inBatches = createBatcher<Waiting>({ batchSize, batchesAtOnce, run: (batch) => commit(begin(batch)) })
  const lane = createBatcher<Waiting>({
    batchSize: 1,
    batchesAtOnce: aloneAtOnce,
    run: async (batch) => {
      for (const one of begin(batch)) await commitAlone(one)
    },
  })
  const alone = (one: Waiting) => lane.push(waiting(one))

  const commit = async (batch: readonly Waiting[]): Promise<void> => {
    if (batch.length === 0) return
    const entries = batch.map(({ entry }) => entry)
    try {
      const work = (trx: AnyTransaction) => inTime(accept(boss, trx, entries, 'skip'), longestTogether, tooLong)
      const outcomes = await transact(database, work, { retryOn })
      for (const [index, one] of batch.entries()) settle(one, outcomes[index])
    } catch (error) {
      await withoutCulprit(batch, error)
    }
  }

  /** Without an outcome its key is held by somebody. */
  const settle = (one: Waiting, outcome: Outcome | undefined): void => {
    if (outcome) one.resolve(outcome)
    else alone(one)
  }

  /** A batch that was rolled back: what is not to blame runs again. */
  const withoutCulprit = async (batch: readonly Waiting[], error: unknown): Promise<void> => {
    if (error instanceof EntriesRefused) {
      for (const one of batch) refuse(one, error)
      return commit(batch.filter(({ entry }) => !error.refusals.has(entry.id)))
    }
    if (isTimeout(error)) return batch.forEach(alone)
    // Whether the COMMIT that was lost has happened is known to nobody, and then nobody may run again.
    if (batch.length === 1 || isOutage(error) || isLostConnection(error)) {
      for (const { reject } of batch) reject(error)
      return
    }
    const half = Math.ceil(batch.length / 2)
    await commit(batch.slice(0, half))
    await commit(batch.slice(half))
  }

  const commitAlone = async (one: Waiting): Promise<void> => {
    try {
      const work = (trx: AnyTransaction) => inTime(accept(boss, trx, [one.entry]), longestAlone, tooLong)
      const [outcome] = await transact(database, work, { retryOn })
      one.resolve(outcome as Outcome)
    } catch (error) {
      if (!refuse(one, error)) one.reject(error)
    }
  }

  const enter = (entry: AcceptEntry) =>
    new Promise<Committed>((resolve, reject) => {
      if (inBatches.waiting() >= mostWaiting) return reject(busy())
      inBatches.push(waiting({ entry, resolve, reject }))
    })

  return {
    submit(entry) {
      const { principal, idempotency } = entry
      if (!idempotency) return enter(entry)
      const thing = `key ${principal}\0${idempotency.key}`
      return turns.take(thing, { patience: lockTimeout, onTimeout: keyLocked }, () => enter(entry))
    },
  }
}

/** Those before it may each take long: it is told to come again when its time is over, and not when they are done. */
function waiting(one: Waiting): Waiting {
  one.timer = setTimeout(() => {
    one.isLate = true
    one.reject(busy())
  }, longestWait)
  return one
}

/** Whose turn it is: those that have not been told to come again. */
function begin(batch: readonly Waiting[]): Waiting[] {
  for (const { timer } of batch) clearTimeout(timer)
  return batch.filter(({ isLate }) => !isLate)
}

/** An operation has not accepted in time. */
class AcceptTimeout extends Error {
  override name = 'AcceptTimeout'
}

const tooLong = () => new AcceptTimeout('The accept of an operation does not end')

const busy = () =>
  new ProblemError('database-unavailable', 'Too many requests wait to be stored', { retryAfterSeconds: 1 })

/** Somebody else was waited for, or something was done, for as long as may be. */
const isTimeout = (error: unknown): boolean =>
  error instanceof AcceptTimeout ||
  ([sqlstate.lockNotAvailable, sqlstate.queryCanceled] as (string | undefined)[]).includes(errorCode(error))

/** What has waited for as long as it may does not wait once more: a batch goes on alone, and then the client decides. */
const retryOn = (error: unknown): boolean => !isTimeout(error)

function refuse({ entry, resolve }: Waiting, error: unknown): boolean {
  const refusal = error instanceof EntriesRefused ? error.refusals.get(entry.id) : undefined
  if (refusal) resolve({ kind: 'refused', refusal })
  return refusal !== undefined
}
