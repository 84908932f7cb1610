// A transaction for each job, and after it the hint to the workers, as the API does.
import { v7 as uuid7 } from 'uuid'
import { prepareQueues, startBoss } from '../../src/db/boss.ts'
import { openDatabase } from '../../src/db/database.ts'
import { createNotifier } from '../../src/db/notifier.ts'
import { enqueue } from '../../src/jobs/enqueue.ts'
import { performPickup, settlePickup } from '../app/operations.ts'
import { serveEnqueuer } from './pickup-process.ts'

const operation = process.env.OPERATION === performPickup.name ? performPickup : settlePickup
const database = openDatabase({ url: process.env.DATABASE_URL as string })
const boss = await startBoss(database, { supervise: false, onError: (error) => console.error(error) })
await prepareQueues(boss, [operation])
const hints = createNotifier(database)

serveEnqueuer(async (sequence) => {
  const id = uuid7()
  const job = { id, operation, payload: { sequence }, principal: 'ann', idempotencyKey: id }
  await database.kysely.transaction().execute((trx) => enqueue(boss, trx, [job]))
  hints.notify('work', [operation.name])
})
