// pg-boss `work` with its defaults. If TUNED is set, with large batches. If ROWS is set, each job inserts a row in the
// transaction that completes the job.
import pg from 'pg'
import { PgBoss } from 'pg-boss'
import { v7 as uuid7 } from 'uuid'
import { drainRate, serveDrainer, waitUntilEmpty } from './drain-process.ts'

const connectionString = process.env.DATABASE_URL as string
const tuned = {
  batchSize: 400,
  localConcurrency: 4,
  burstWhenBatchFull: true,
  pollingIntervalSeconds: 0.5,
}
const options = process.env.TUNED ? tuned : {}
const queue = 'note'
const jobsPerStatement = 1_000

const boss = new PgBoss({ connectionString })
boss.on('error', (error) => console.error(error))
await boss.start()
await boss.createQueue(queue)
const pool = new pg.Pool({ connectionString, max: 1 })
await pool.query('create table effect (job_id uuid primary key)')

const work = () =>
  process.env.ROWS
    ? boss.work(queue, { ...options, transactional: true }, async (jobs, tx) => {
        await tx.executeSql('insert into effect (job_id) select unnest($1::uuid[])', [jobs.map(({ id }) => id)])
      })
    : boss.work(queue, options, async () => {})

serveDrainer({
  async fill(jobs) {
    await pool.query('truncate pgboss.job, effect')
    for (let from = 0; from < jobs; from += jobsPerStatement) {
      const ids = Array.from({ length: Math.min(jobsPerStatement, jobs - from) }, () => uuid7())
      await boss.insert(
        queue,
        ids.map((id) => ({ id, data: { noteId: id } })),
      )
    }
  },
  async drain({ atMostSeconds }) {
    await work()
    await waitUntilEmpty(connectionString, "select from pgboss.job where state < 'completed' limit 1", atMostSeconds)
    await boss.offWork(queue)
    return drainRate(connectionString, "select completed_on as at from pgboss.job where state = 'completed'")
  },
})
