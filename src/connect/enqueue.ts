import { sql } from 'kysely'
import { forceTwoPhase } from '../db/citus.ts'
import { channels } from '../db/notifier.ts'
import { asTransaction, type OwnTransaction } from '../db/transaction-on.ts'
import { type EnqueueOptions, enqueue as insertJobs } from '../jobs/enqueue.ts'
import type { Job } from '../jobs/job.ts'
import type { NewJob } from '../jobs/new-job.ts'
import { traceSend } from '../jobs/spans.ts'
import type { AnyTransaction, Operation, PayloadFor } from '../operation.ts'
import { assertPrincipal } from '../primitives/principal.ts'
import { uuid7 } from '../primitives/uuid.ts'
import { assertPayload } from '../validation.ts'
import type { Core } from './core.ts'

/** A job of `enqueueAll`. */
export interface EnqueueItem<O extends Operation = Operation> extends EnqueueOptions {
  operation: O
  payload: PayloadFor<O>
}

/** Maximum number of jobs that one statement inserts. */
const maxInsertedTogether = 1_000

/**
 * Enqueues jobs in the transaction of the app.
 *
 * @param notifies whether the commit notifies the workers. A caller that answers after the commit notifies them then,
 *   because transactions with NOTIFY commit one after another.
 */
export async function enqueueAll(
  core: Core,
  givenTrx: OwnTransaction,
  items: readonly EnqueueItem[],
  notifies: boolean,
): Promise<Job[]> {
  const { database, boss, operations, seals, tracing } = core
  const jobs = items.map((item) => toNewJob(operations, item))
  const trx = await asTransaction(givenTrx)
  if (jobs.length === 0) return []
  await forceTwoPhase(database, trx)
  const [first] = jobs
  const names = [...new Set(jobs.map(({ operation }) => operation.name))]
  const message =
    jobs.length === 1
      ? { id: first?.id, operation: first?.operation.name }
      : { operation: names.length === 1 ? names[0] : undefined, count: jobs.length }
  return traceSend(tracing, message, async (context) => {
    const made: Job[] = []
    for (let start = 0; start < jobs.length; start += maxInsertedTogether) {
      const some = jobs.slice(start, start + maxInsertedTogether).map((job) => ({ ...job, ...context }))
      made.push(...(await insertJobs(boss, trx, some, seals)))
    }
    if (notifies) await notifyWorkers(trx, names)
    return made
  })
}

function toNewJob(operations: ReadonlyMap<string, Operation>, item: EnqueueItem): NewJob {
  const { operation, payload, key, principal = 'anonymous', ...rest } = item
  assertRegistered(operations, operation)
  assertPayload(operation, payload)
  assertPrincipal(principal)
  return { ...rest, id: uuid7(), operation, payload, principal, idempotencyKey: key }
}

/** Notifies the workers when the transaction commits. */
async function notifyWorkers(trx: AnyTransaction, names: readonly string[]): Promise<void> {
  await sql`
    select pg_notify(${channels.work}, name)::text from unnest(${names}::text[]) as due (name)`.execute(trx)
}

/** @throws TypeError if the app does not have this operation */
export function assertRegistered(operations: ReadonlyMap<string, Operation>, operation: Operation): void {
  if (operations.get(operation?.name) === operation) return
  throw new TypeError(`Operation '${operation?.name}' is not registered`)
}
