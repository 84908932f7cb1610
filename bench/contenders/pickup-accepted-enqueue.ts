// Enqueues each job in its own transaction. Like the API, notifies the workers after each commit.
import { v7 as uuid7 } from 'uuid'
import { createNotifier } from '../../src/db/notifier.ts'
import { enqueue } from '../../src/jobs/enqueue.ts'
import { performPickup, settlePickup } from '../app/operations.ts'
import { openQueue } from '../core/our-queue.ts'
import { serveEnqueuer } from './pickup-process.ts'

const operation = process.env.OPERATION === performPickup.name ? performPickup : settlePickup
const { database, boss } = await openQueue(process.env.DATABASE_URL as string, [operation])
const notifier = createNotifier(database)

serveEnqueuer(async (sequence) => {
  const id = uuid7()
  const job = { id, operation, payload: { sequence }, principal: 'ann', idempotencyKey: id }
  await database.kysely.transaction().execute((trx) => enqueue(boss, trx, [job]))
  notifier.notify('work', [operation.name])
})
