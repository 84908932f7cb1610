// pg-boss with notifications, batches and heartbeats. Runs jobs if ROLE is `work`, otherwise enqueues them. By default, a
// job of a killed worker would wait until it expires, 15 minutes after its start, and for a supervisor that looks once a
// minute.
import { PgBoss } from 'pg-boss'
import { ready } from '../core/module.ts'
import { queueNames, runJob, serveProducer } from './cell-process.ts'

const isWorker = process.env.ROLE === 'work'
const boss = new PgBoss({
  connectionString: process.env.DATABASE_URL as string,
  useListenNotify: isWorker,
  supervise: isWorker,
  schedule: false,
  superviseIntervalSeconds: 5,
  monitorIntervalSeconds: 5,
})
boss.on('error', (error) => console.error(error))
await boss.start()

if (isWorker) {
  for (const queue of queueNames) {
    await boss.createQueue(queue, { notify: true, heartbeatSeconds: 15, retryLimit: 3 })
    const options = {
      batchSize: 100,
      localConcurrency: 2,
      burstWhenBatchFull: true,
      pollingIntervalSeconds: 0.5,
      // No notification announces a retry.
      notifyPollingIntervalSeconds: 2,
    }
    await boss.work<{ sequence: number }>(queue, options, async (jobs) => {
      await Promise.all(jobs.map(({ data }) => runJob(data.sequence)))
    })
  }
  ready()
} else {
  serveProducer((queue, sequences) =>
    boss.insert(
      queue,
      sequences.map((sequence) => ({ data: { sequence } })),
    ),
  )
}
