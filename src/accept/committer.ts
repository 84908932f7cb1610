import type { Database } from '../db/database.ts'
import type { LockWait } from '../db/locks.ts'
import { errorCode, isLostConnection, isOutage, sqlstate } from '../db/sqlstate.ts'
import { requestPolicy, transact } from '../db/transaction.ts'
import { ProblemError } from '../errors.ts'
import { noSeals, type Seals } from '../jobs/seals.ts'
import { traceTransaction } from '../jobs/spans.ts'
import type { AnyTransaction } from '../operation.ts'
import { type Batcher, createBatcher } from '../primitives/batcher.ts'
import { runBisecting } from '../primitives/bisect.ts'
import type { KeyedMutex } from '../primitives/keyed-mutex.ts'
import { withTimeout } from '../primitives/timeout.ts'
import type { Tracing } from '../primitives/tracing.ts'
import type { PgBoss } from '../queue/boss.ts'
import { type AcceptEntry, accept, EntriesRefused } from './accept.ts'
import { windowOf } from './coalesce.ts'
import { withCoalescingKey } from './coalescing-key.ts'
import { keyLocked, keyLockTimeoutMs } from './idempotency-key.ts'
import { type Committed, overloaded, PendingRequest } from './pending-request.ts'
import { WindowGate } from './window-gate.ts'

/** Accepts requests. Answers each request only after its transaction has committed. */
export interface Committer {
  /**
   * @throws ProblemError idempotency-key-locked, job-locked, invalid-body when the coalescing key is empty or too long, or
   *   database-unavailable when too many requests are waiting
   */
  submit(entry: AcceptEntry): Promise<Committed>
}

export interface CommitterOptions {
  database: Database
  boss: PgBoss
  /** Required for operations that seal members. */
  seals?: Seals
  mutex: KeyedMutex
  tracing?: Tracing | undefined
  /**
   * How long the work of a transaction may take before its last statements and its COMMIT are sent: of a batch (`skip`),
   * of a request that is accepted alone (`wait`).
   */
  workTimeoutMs?: Readonly<Record<LockWait, number>>
}

/** Maximum number of requests in one transaction. */
const maxBatchSize = 128
/** With two, one batch can write its rows while the other batch waits for the disk. */
const maxConcurrentBatches = 2
/**
 * Maximum number of requests that are accepted alone at the same time. Each of them uses one connection of the pool.
 */
const maxConcurrentSingles = 4
/** Maximum number of requests of operations with `oneByOne` that are accepted at the same time. */
const maxConcurrentOneByOne = 4
/** Maximum number of waiting requests. */
const maxWaiting = 10_000
const defaultWorkTimeoutMs = { skip: 2_000, wait: 30_000 }

/**
 * Creates the committer of a process. Requests that arrive while earlier requests are being committed share the next
 * transaction, so they need only one commit. A request that would make the others wait for a key or a lock is accepted
 * alone, or with the requests that share its job. A batch that fails is bisected, so that only the bad request fails.
 * Requests of an operation with `oneByOne` share a transaction only if they share a job.
 */
export function createCommitter(options: CommitterOptions): Committer {
  const { database, boss, seals = noSeals, mutex, tracing, workTimeoutMs = defaultWorkTimeoutMs } = options
  const acceptTogether = async (requests: readonly PendingRequest[], lockWait: LockWait) => {
    const unanswered = requests.filter(({ isAnswered }) => !isAnswered)
    if (unanswered.length === 0) return
    const entries = unanswered.map(({ entry }) => entry)
    const work = async (trx: AnyTransaction) => {
      const accepting = accept({ boss, seals }, trx, entries, lockWait)
      const { outcomes, commit } = await withTimeout(accepting, workTimeoutMs[lockWait], acceptTimeout)
      // A COMMIT that was sent must not be given up.
      await commit()
      return outcomes
    }
    try {
      const outcomes = await traceTransaction(tracing, 'accept', entries, () =>
        transact(database, work, { ...requestPolicy, isRetryable: (error) => !isTimeout(error) }),
      )
      for (const [index, outcome] of outcomes.entries()) if (outcome) unanswered[index]?.resolve(outcome)
      // There is no outcome if another transaction has locked the key.
      acceptAlone(unanswered.filter(({ isAnswered }) => !isAnswered))
    } catch (error) {
      if (!(error instanceof EntriesRefused)) throw error
      for (const request of unanswered) request.refuse(error)
      await acceptTogether(unanswered, lockWait)
    }
  }

  const run = (requests: readonly PendingRequest[], lockWait: LockWait) =>
    runBisecting(
      requests.filter((request) => request.start()),
      {
        run: (some) => acceptTogether(some, lockWait),
        // The outcome of a lost COMMIT is unknown, so nothing in the batch may be retried.
        canSplit: (error) => !isTimeout(error) && !isOutage(error) && !isLostConnection(error),
        onFailure: (some, error) => {
          const failed = some.filter(({ isAnswered }) => !isAnswered)
          if (lockWait === 'skip' && isTimeout(error)) acceptAlone(failed)
          else for (const request of failed) request.reject(error)
        },
      },
    )

  const batchQueue: Batcher<PendingRequest> = createBatcher({
    ...{ maxBatchSize, maxConcurrentBatches },
    run: (batch) => {
      const { oneByOne = [], together = [] } = Object.groupBy(gate.admit(batch), ({ entry }) =>
        entry.operation.oneByOne ? 'oneByOne' : 'together',
      )
      for (const requests of groupByJob(oneByOne)) oneByOneQueue.push(requests)
      return run(together, 'skip')
    },
  })
  const oneByOneQueue = createBatcher<readonly PendingRequest[]>({
    ...{ maxBatchSize: 1, maxConcurrentBatches: maxConcurrentOneByOne },
    run: ([requests = []]) => run(requests, 'skip'),
  })
  const gate = new WindowGate<PendingRequest>(
    ({ entry }) => windowOf(entry),
    (request) => batchQueue.push(request),
  )
  const singleQueue = createBatcher<readonly PendingRequest[]>({
    ...{ maxBatchSize: 1, maxConcurrentBatches: maxConcurrentSingles },
    run: ([requests = []]) => run(requests, 'wait'),
  })
  const acceptAlone = (requests: readonly PendingRequest[]) => {
    for (const together of groupByJob(requests)) singleQueue.push(together.map((request) => request.startWaiting()))
  }

  const enter = (entry: AcceptEntry) =>
    new Promise<Committed>((resolve, reject) => {
      if (batchQueue.waiting() + oneByOneQueue.waiting() + gate.waiting >= maxWaiting) return reject(overloaded())
      batchQueue.push(new PendingRequest(entry, resolve, reject).startWaiting())
    })

  return {
    async submit(given) {
      const entry = withCoalescingKey(given)
      const { principal, idempotency } = entry
      if (!idempotency) return enter(entry)
      const key = `key ${principal}\0${idempotency.key}`
      return mutex.runExclusive(key, { timeoutMs: keyLockTimeoutMs, timeoutError: keyLocked }, () => enter(entry))
    },
  }
}

/** Groups requests that share a job. In separate transactions, requests of one window would wait for each other. */
const groupByJob = (requests: readonly PendingRequest[]) =>
  Map.groupBy(requests, ({ entry }) => windowOf(entry) ?? entry.id).values()

/** Thrown when the `accept` of an operation takes too long. */
class AcceptTimeout extends ProblemError {
  constructor() {
    super('database-unavailable', 'The request could not be stored in time', { retryAfterSeconds: 1 })
  }
}

const acceptTimeout = () => new AcceptTimeout()

const timeoutCodes: readonly (string | undefined)[] = [sqlstate.lockNotAvailable, sqlstate.queryCanceled]

/** Returns whether a statement, the wait for a lock, or an `accept` timed out. */
const isTimeout = (error: unknown): boolean => error instanceof AcceptTimeout || timeoutCodes.includes(errorCode(error))
