// graphile-worker with ten concurrent jobs. Its `add_job` sends the notification in the transaction that adds the job.
import { Logger, makeWorkerUtils, run } from 'graphile-worker'
import pg from 'pg'
import { idleTimeoutMillis, ready } from '../core/module.ts'
import { reportStarted, serveEnqueuer } from './pickup-process.ts'

const pgPool = new pg.Pool({
  connectionString: process.env.DATABASE_URL as string,
  max: 12,
  idleTimeoutMillis,
})
const task = 'note'
// A log line per job would slow graphile-worker down.
const logger = new Logger(() => () => {})

if (process.env.ROLE === 'work') {
  await run({
    pgPool,
    logger,
    concurrency: 10,
    noHandleSignals: true,
    taskList: { [task]: async (payload) => reportStarted((payload as { sequence: number }).sequence) },
  })
  ready()
} else {
  const utils = await makeWorkerUtils({ pgPool, logger })
  serveEnqueuer(async (sequence) => void (await utils.addJob(task, { sequence })))
}
