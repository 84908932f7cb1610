import type { Database } from '../db/database.ts'
import { pipeline } from '../db/pipeline.ts'
import { requestPolicy, transact } from '../db/transaction.ts'
import { ProblemError } from '../errors.ts'
import { insertBatch, type NewBatch } from '../jobs/enqueue-batch.ts'
import type { NewJob } from '../jobs/new-job.ts'
import { noSeals, type Seals } from '../jobs/seals.ts'
import { traceTransaction } from '../jobs/spans.ts'
import { type AnyTransaction, batchName } from '../operation.ts'
import type { KeyedMutex } from '../primitives/keyed-mutex.ts'
import { Limiter } from '../primitives/limiter.ts'
import { withTimeout } from '../primitives/timeout.ts'
import type { TraceContext } from '../primitives/trace-context.ts'
import type { Tracing } from '../primitives/tracing.ts'
import { type AcceptEntry, type AcceptOutcome, acceptSeparately } from './accept.ts'
import { assertRoom } from './backlog.ts'
import { type Idempotency, isSameRequest } from './fingerprint.ts'
import { claimKeys, keyLocked, keyLockTimeoutMs, setTimeouts } from './idempotency-key.ts'

/** A request for a job of a batch. Its `idempotency` is that of the batch. */
export interface BatchEntry extends Omit<AcceptEntry, 'idempotency'> {
  /** The key by which the worker deduplicates the job. */
  key?: string | undefined
}

/** A batch that has passed all checks that do not need the database. */
export interface AcceptedBatch extends TraceContext {
  /** UUIDv7, lower than the ids of its entries. */
  id: string
  principal: string
  /** At least one. */
  entries: readonly BatchEntry[]
  onEnd?: BatchEntry | undefined
  allowFailures: boolean
  idempotency?: Idempotency | undefined
  webhookEndpointId?: string | undefined
}

/** The jobs of a batch share no job with other requests. */
export type BatchAcceptOutcome = Exclude<AcceptOutcome, { kind: 'coalesced' }>

/** Maximum number of entries that an `accept` gets at once: as many as from single requests. */
const maxEntriesTogether = 128
/** Each of them uses one connection of the pool for up to seconds. */
const maxConcurrentBatches = 2
const maxWaiting = 100
/** How long the work of the transaction may take, in milliseconds. */
const workTimeoutMs = 60_000

/** Accepts batches, each in a transaction of its own. */
export interface BatchCommitter {
  /**
   * Resolves after the commit.
   *
   * @throws EntriesRefused when an operation refused an entry; then nothing is stored
   * @throws ProblemError idempotency-key-locked, database-unavailable
   */
  submit(batch: AcceptedBatch): Promise<BatchAcceptOutcome>
}

export interface BatchCommitterOptions {
  database: Database
  /** Required for operations that seal members. */
  seals?: Seals
  mutex: KeyedMutex
  tracing?: Tracing | undefined
}

/** Creates the batch committer of a process. */
export function createBatchCommitter(options: BatchCommitterOptions): BatchCommitter {
  const { database, seals = noSeals, mutex, tracing } = options
  const limiter = new Limiter(maxConcurrentBatches)
  let waiting = 0
  const commit = async (batch: AcceptedBatch) => {
    if (waiting >= maxWaiting) throw overloaded('Too many batches are waiting to be stored')
    waiting += 1
    try {
      return await limiter.run(() =>
        traceTransaction(tracing, 'accept', [{ ...batch, operation: { name: batchName } }], () =>
          transact(database, (trx) => work(trx, batch), requestPolicy),
        ),
      )
    } finally {
      waiting -= 1
    }
  }
  const work = (trx: AnyTransaction, batch: AcceptedBatch) =>
    withTimeout(acceptBatch(trx, batch, seals), workTimeoutMs, () =>
      overloaded('The batch could not be stored in time'),
    )
  return {
    submit(batch) {
      if (!batch.idempotency) return commit(batch)
      const key = `key ${batch.principal}\0${batch.idempotency.key}`
      return mutex.runExclusive(key, { timeoutMs: keyLockTimeoutMs, timeoutError: keyLocked }, () => commit(batch))
    },
  }
}

/**
 * Checks that the jobs of a batch fit into the backlogs of their operations.
 *
 * @throws ProblemError backlog-full, principal-backlog-full, or invalid-body if they would not fit into an empty backlog
 */
export async function assertBatchBacklog(database: Database, { principal, entries }: AcceptedBatch): Promise<void> {
  for (const [operation, ofOperation] of Map.groupBy(entries, (entry) => entry.operation)) {
    await assertRoom(database, operation, principal, ofOperation.length)
  }
}

const overloaded = (detail: string) => new ProblemError('database-unavailable', detail, { retryAfterSeconds: 1 })

/** Accepts a batch within the transaction. See {@link BatchCommitter.submit}. */
async function acceptBatch(trx: AnyTransaction, batch: AcceptedBatch, seals: Seals): Promise<BatchAcceptOutcome> {
  const { id, principal, entries, onEnd, idempotency } = batch
  const claims = idempotency ? [{ principal, ...idempotency, jobId: id }] : []
  const [, [holder]] = await pipeline(trx, (trx) => [setTimeouts(trx, 'wait'), claimKeys(trx, claims)])
  if (idempotency && holder && holder.jobId !== id) {
    return isSameRequest(idempotency, holder) ? { kind: 'replayed', jobId: holder.jobId } : { kind: 'key-reused' }
  }
  const children = await writeAll(trx, entries)
  const next = onEnd && (await writeFollowing(trx, onEnd))
  return { kind: 'accepted', job: await insertBatch(trx, { ...batch, children, onEnd: next }, seals) }
}

/** Calls the `accept` of the operations, and returns the jobs in the order of the entries. */
async function writeAll(trx: AnyTransaction, entries: readonly BatchEntry[]): Promise<NewJob[]> {
  const jobs = new Map<string, NewJob>()
  for (const ofOperation of Map.groupBy(entries, ({ operation }) => operation).values()) {
    for (let first = 0; first < ofOperation.length; first += maxEntriesTogether) {
      const some = ofOperation.slice(first, first + maxEntriesTogether)
      for (const job of await acceptSeparately(trx, some)) jobs.set(job.id, job)
    }
  }
  return entries.map(({ id, key }) => ({ ...(jobs.get(id) as NewJob), idempotencyKey: key }))
}

/** Only domain rows need an id that is older than the job. With a new id, the job is among the newest in lists. */
async function writeFollowing(trx: AnyTransaction, onEnd: BatchEntry): Promise<NonNullable<NewBatch['onEnd']>> {
  const [job] = (await acceptSeparately(trx, [onEnd])) as [NewJob]
  const { id, operation, payload, resource, runAt } = job
  return { operation, payload, resource, runAt, ...(operation.accept && { id }) }
}
