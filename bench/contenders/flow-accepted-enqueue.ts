// Enqueues jobs with idempotency keys, a hundred per transaction. Like the API, notifies the workers after each commit.
import { v7 as uuid7 } from 'uuid'
import { createNotifier } from '../../src/db/notifier.ts'
import { enqueue } from '../../src/jobs/enqueue.ts'
import { createCounted } from '../app/operations.ts'
import { openQueue } from '../core/our-queue.ts'
import { serveFeeder } from './flow-process.ts'

const { database, boss } = await openQueue(process.env.DATABASE_URL as string, [createCounted])
const notifier = createNotifier(database)

serveFeeder({
  jobsPerSend: 100,
  concurrentSends: 2,
  async send(count) {
    const ids = Array.from({ length: count }, () => uuid7())
    const jobs = ids.map((id) => {
      return { id, operation: createCounted, payload: { noteId: id }, principal: 'ann', idempotencyKey: id }
    })
    await database.kysely.transaction().execute((trx) => enqueue(boss, trx, jobs))
    notifier.notify('work', [createCounted.name])
  },
})
