// pg-boss sends NOTIFY in the transaction that enqueues a job. Without NOTIFY, a job waits up to 2 s for the next poll.
import { PgBoss } from 'pg-boss'
import { idleTimeoutMillis, ready } from '../core/module.ts'
import { reportStarted, serveEnqueuer } from './pickup-process.ts'

const queue = 'note'
const isWorker = process.env.ROLE === 'work'
const connection = { connectionString: process.env.DATABASE_URL as string, idleTimeoutMillis }
const boss = new PgBoss({
  ...connection,
  useListenNotify: isWorker,
  supervise: isWorker,
  schedule: isWorker,
})
boss.on('error', (error) => console.error(error))
await boss.start()

if (isWorker) {
  await boss.createQueue(queue, { notify: true })
  const options = { batchSize: 100, localConcurrency: 2, burstWhenBatchFull: true, pollingIntervalSeconds: 0.5 }
  await boss.work<{ sequence: number }>(queue, options, async (jobs) => {
    for (const { data } of jobs) reportStarted(data.sequence)
  })
  ready()
} else {
  serveEnqueuer(async (sequence) => void (await boss.send(queue, { sequence })))
}
