// Jobs with keys, a hundred in a transaction, and after it the hint to the workers, as the API does.
import { v7 as uuid7 } from 'uuid'
import { prepareQueues, startBoss } from '../../src/db/boss.ts'
import { openDatabase } from '../../src/db/database.ts'
import { createNotifier } from '../../src/db/notifier.ts'
import { enqueue } from '../../src/jobs/enqueue.ts'
import { createCounted } from '../app/operations.ts'
import { serveFeeder } from './flow-process.ts'

const database = openDatabase({ url: process.env.DATABASE_URL as string })
const boss = await startBoss(database, { supervise: false, onError: (error) => console.error(error) })
await prepareQueues(boss, [createCounted])
const hints = createNotifier(database)

serveFeeder({
  chunk: 100,
  atOnce: 2,
  async send(count) {
    const ids = Array.from({ length: count }, () => uuid7())
    const jobs = ids.map((id) => {
      return { id, operation: createCounted, payload: { noteId: id }, principal: 'ann', idempotencyKey: id }
    })
    await database.kysely.transaction().execute((trx) => enqueue(boss, trx, jobs))
    hints.notify('work', [createCounted.name])
  },
})
