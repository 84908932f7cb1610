// graphile-worker with its defaults. If TUNED is set, with the local queue that its own performance test uses.
import { setTimeout as delay } from 'node:timers/promises'
import { Logger, makeWorkerUtils, type RunnerOptions, run } from 'graphile-worker'
import pg from 'pg'
import { now } from '../core/clock.ts'
import { serveDrainer, waitUntilEmpty } from './drain-process.ts'

const connectionString = process.env.DATABASE_URL as string
// A log line per job would slow graphile-worker down.
const logger = new Logger(() => () => {})
const tuned: RunnerOptions = {
  preset: {
    worker: {
      concurrentJobs: 24,
      maxPoolSize: 10,
      localQueue: { size: 500 },
      completeJobBatchDelay: 0,
      failJobBatchDelay: 0,
    },
  },
}
const options = process.env.TUNED ? tuned : {}
const task = 'note'
const jobsPerStatement = 1_000

const utils = await makeWorkerUtils({ connectionString, logger })
await utils.migrate()
const pool = new pg.Pool({ connectionString, max: 1 })
// graphile-worker deletes completed jobs.
const unfinished = 'select from graphile_worker._private_jobs limit 1'

serveDrainer({
  async fill(jobs) {
    await pool.query('truncate graphile_worker._private_jobs')
    for (let from = 0; from < jobs; from += jobsPerStatement) {
      const specs = Array.from({ length: Math.min(jobsPerStatement, jobs - from) }, (_, index) => ({
        identifier: task,
        payload: { noteId: String(from + index) },
      }))
      await utils.addJobs(specs)
    }
  },
  async drain({ jobs, atMostSeconds }) {
    let started = 0
    let first = 0
    const runner = await run({
      ...options,
      connectionString,
      logger,
      noHandleSignals: true,
      taskList: {
        [task]: async () => {
          if (++started === 1) first = now()
        },
      },
    })
    const deadline = now() + atMostSeconds * 1000
    while (started < jobs && now() < deadline) await delay(1)
    if (started === jobs) await waitUntilEmpty(connectionString, unfinished, atMostSeconds, 1)
    const last = now()
    await runner.stop()
    const { rows } = await pool.query('select count(*)::int as left from graphile_worker._private_jobs')
    const completed = jobs - rows[0].left
    return { completed, perSecond: (completed - 1) / ((last - first) / 1000) }
  },
})
