import { forceTwoPhase } from '../db/citus.ts'
import { asTransaction, type OwnTransaction } from '../db/transaction-on.ts'
import { insertBatch } from '../jobs/enqueue-batch.ts'
import type { Job } from '../jobs/job.ts'
import { type Batch, toNewBatch } from '../jobs/new-batch.ts'
import { traceSend } from '../jobs/spans.ts'
import { batchName } from '../operation.ts'
import { assertPrincipal } from '../primitives/principal.ts'
import type { Core } from './core.ts'
import { assertRegistered } from './enqueue.ts'

/** Enqueues a batch in the transaction of the app. */
export async function enqueueBatch(core: Core, trx: OwnTransaction, batch: Batch): Promise<Job> {
  const { database, operations, seals, tracing } = core
  const { items, onEnd, principal = 'anonymous' } = batch
  assertPrincipal(principal)
  for (const { operation } of onEnd ? [...items, onEnd] : items) assertRegistered(operations, operation)
  const made = toNewBatch(batch, principal)
  const ownTrx = await asTransaction(trx)
  await forceTwoPhase(database, ownTrx)
  return traceSend(tracing, { id: made.id, operation: batchName, count: items.length }, (context) =>
    insertBatch(ownTrx, { ...made, ...context }, seals),
  )
}
