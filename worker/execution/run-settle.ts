import { enqueue } from '../../src/jobs/enqueue.ts'
import { insertBatchUnread } from '../../src/jobs/enqueue-batch.ts'
import { type Batch, toNewBatch } from '../../src/jobs/new-batch.ts'
import { setPrincipal } from '../../src/jobs/row-security.ts'
import { traceSend } from '../../src/jobs/spans.ts'
import { type AnyTransaction, batchName, type Operation } from '../../src/operation.ts'
import { assertPrincipal } from '../../src/primitives/principal.ts'
import { readable } from '../../src/primitives/thrown.ts'
import { withTimeout } from '../../src/primitives/timeout.ts'
import { uuid7 } from '../../src/primitives/uuid.ts'
import { assertPayload, findPayloadMismatch, findResultMismatch } from '../../src/validation.ts'
import { AttemptTimeout, SchemaMismatch } from '../errors.ts'
import type { SettlingJob } from '../running-job.ts'
import { senderOf } from './attempt-spans.ts'
import { createDependencyReader } from './dependencies.ts'
import { runInHandlerScope } from './handler-scope.ts'
import type { JobCompletion } from './job-status.ts'
import { describeJob, type OperationWorker, openPayload } from './operation-worker.ts'
import type { PerformedAttempt } from './outcome.ts'
import type { PendingJob } from './pending-jobs.ts'

interface Settled {
  completions: JobCompletion[]
  enqueued: Set<string>
  parents: Set<string>
}

/**
 * Runs the handler's `settle` for a batch of jobs, within the transaction.
 *
 * @returns what to write for each job, the operations for which the handler has enqueued jobs, and the jobs that have
 *   enqueued children
 * @throws AttemptTimeout when `settle` takes longer than the operation's timeout
 * @throws SchemaMismatch when a payload or a result does not match its schema
 * @throws DecryptionError
 */
export async function runSettle(
  worker: OperationWorker,
  trx: AnyTransaction,
  performed: readonly PerformedAttempt[],
  pending: ReadonlyMap<string, PendingJob>,
): Promise<Settled> {
  const { operation, handler } = worker
  const rowOf = ({ claim }: PerformedAttempt) => pending.get(claim.jobId) as PendingJob
  const payloads = performed.map((job) => openPayload(worker, job.claim, rowOf(job)))
  // Checks the payloads, because they may come from SQL or from another release of the app. If the handler has a
  // `perform`, the executor has already checked them.
  if (!handler.perform) assertMatch(operation, 'payload', payloads)
  const enqueued = new Set<string>()
  const parents = new Set<string>()
  const resources = new Map<string, string>()
  const dependenciesOf = createDependencyReader(
    worker,
    trx,
    performed.map(({ claim }) => claim.jobId),
  )
  const jobs = performed.map((job, index) => {
    const row = rowOf(job)
    const setResource = (path: string) => void resources.set(row.id, path)
    const common = settlingJob(worker, { ...job, row, opened: payloads[index] }, { enqueued, parents })
    return { ...common, setResource, dependencies: dependenciesOf(row.id) }
  })
  const returned = jobs.length > 0 && handler.settle ? await callSettle(worker, trx, jobs) : undefined
  if (returned && returned.length !== jobs.length) {
    throw new Error(`settle of '${operation.name}' must return one result for each job, in the same order`)
  }
  const hasResult = operation.schemas.result !== undefined
  const results = performed.map(({ result }, index) => (hasResult ? (returned ? returned[index] : result) : undefined))
  if (hasResult) assertMatch(operation, 'result', results)
  const completions = performed.map((job, index) => ({
    id: job.claim.jobId,
    attempt: job.claim.attempt,
    result: worker.seals.seal('result', { operation, principal: rowOf(job).principal }, results[index]),
    resource: resources.get(job.claim.jobId) ?? job.resource,
    message: job.report?.message,
  }))
  return { completions, enqueued, parents }
}

async function callSettle({ handler, log, operation }: OperationWorker, trx: AnyTransaction, jobs: SettlingJob[]) {
  const { timeoutSeconds } = operation
  await setPrincipal(trx, operation, jobs)
  const uncaught = Promise.withResolvers<never>()
  const settling = runInHandlerScope({ log, fail: uncaught.reject }, () => handler.settle?.(trx, jobs))
  const settled = Promise.race([settling, uncaught.promise]).catch((error: unknown) => Promise.reject(readable(error)))
  return withTimeout(settled, timeoutSeconds * 1000, () => new AttemptTimeout(timeoutSeconds))
}

/**
 * Throws for the first mismatch, which fails the whole batch. The batch is then bisected until only the job with the
 * mismatch fails.
 */
function assertMatch(operation: Operation, what: 'payload' | 'result', values: readonly unknown[]): void {
  for (const value of values) {
    const mismatch = what === 'payload' ? findPayloadMismatch(operation, value) : findResultMismatch(operation, value)
    if (mismatch) throw new SchemaMismatch(what, operation.name, mismatch)
  }
}

function settlingJob(
  worker: OperationWorker,
  { claim, row, opened, result }: PerformedAttempt & { row: PendingJob; opened: unknown },
  { enqueued, parents }: Pick<Settled, 'enqueued' | 'parents'>,
): Omit<SettlingJob, 'setResource' | 'dependencies'> {
  const sender = worker.spans?.current(claim) ?? senderOf(row)
  return {
    ...describeJob(worker, claim, row, opened),
    result,
    async enqueue(trx, next, payload, { key, principal = row.principal, child = false, ...rest } = {}) {
      assertPayload(next, payload)
      // The job itself may have a reserved one, for example `schedule`.
      if (principal !== row.principal) assertPrincipal(principal)
      const parent = child ? row.id : undefined
      const job = { ...rest, id: uuid7(), operation: next, payload, principal, parent, idempotencyKey: key }
      const sent = { id: job.id, operation: next.name, sender }
      await traceSend(worker.tracing, sent, (context) =>
        enqueue(worker.boss, trx, [{ ...job, ...context }], worker.seals),
      )
      enqueued.add(next.name)
      if (child) parents.add(row.id)
      return job.id
    },
    async enqueueBatch(trx, { child = false, ...given }) {
      const { principal = row.principal } = given
      if (principal !== row.principal) assertPrincipal(principal)
      const batch = toNewBatch(given as unknown as Batch, principal)
      const { id, children } = batch
      const sent = { id, operation: batchName, count: children.length, sender }
      await traceSend(worker.tracing, sent, (context) =>
        insertBatchUnread(trx, { ...batch, ...context, parent: child ? row.id : undefined }, worker.seals),
      )
      for (const { operation } of children) enqueued.add(operation.name)
      if (child) parents.add(row.id)
      return id
    },
  }
}
