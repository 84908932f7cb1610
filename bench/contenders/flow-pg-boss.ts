// pg-boss, tuned for throughput. Runs jobs if ROLE is `work`. Otherwise inserts a hundred jobs at a time.
import { PgBoss } from 'pg-boss'
import { ready } from '../core/module.ts'
import { reportCompleted, serveFeeder } from './flow-process.ts'

const connectionString = process.env.DATABASE_URL as string
const isWorker = process.env.ROLE === 'work'
const queue = 'note'
const boss = new PgBoss({ connectionString, supervise: isWorker, schedule: false })
boss.on('error', (error) => console.error(error))
await boss.start()

if (isWorker) {
  await boss.createQueue(queue)
  const tuned = { batchSize: 100, localConcurrency: 4, burstWhenBatchFull: true, pollingIntervalSeconds: 0.5 }
  await boss.work(queue, tuned, async (jobs) => reportCompleted(jobs.length))
  ready()
} else {
  serveFeeder({
    jobsPerSend: 100,
    concurrentSends: 2,
    send: (count) =>
      boss.insert(
        queue,
        Array.from({ length: count }, (_, number) => ({ data: { noteId: number } })),
      ),
  })
}
