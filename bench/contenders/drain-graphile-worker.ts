// graphile-worker: as it comes, or with its local queue, as its own performance test has it.
import { setTimeout as delay } from 'node:timers/promises'
import { Logger, makeWorkerUtils, type RunnerOptions, run } from 'graphile-worker'
import pg from 'pg'
import { now } from '../core/clock.ts'
import { serveDrainer, untilNone } from './drain-process.ts'

const connectionString = process.env.DATABASE_URL as string
// A line for each job would be measured as well.
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
const chunk = 1_000

const utils = await makeWorkerUtils({ connectionString, logger })
await utils.migrate()
const pool = new pg.Pool({ connectionString, max: 1 })
// It deletes what has ended.
const waiting = 'select from graphile_worker._private_jobs limit 1'

serveDrainer({
  async fill(jobs) {
    await pool.query('truncate graphile_worker._private_jobs')
    for (let from = 0; from < jobs; from += chunk) {
      const specs = Array.from({ length: Math.min(chunk, jobs - from) }, (_, index) => ({
        identifier: task,
        payload: { noteId: String(from + index) },
      }))
      await utils.addJobs(specs)
    }
  },
  async drain({ jobs, atMostSeconds }) {
    let begun = 0
    let first = 0
    const runner = await run({
      ...options,
      connectionString,
      logger,
      noHandleSignals: true,
      taskList: {
        [task]: async () => {
          if (++begun === 1) first = now()
        },
      },
    })
    const deadline = now() + atMostSeconds * 1000
    while (begun < jobs && now() < deadline) await delay(1)
    const allBegun = begun === jobs
    if (allBegun) await untilNone(connectionString, waiting, atMostSeconds, 1)
    const last = now()
    await runner.stop()
    const { rows } = await pool.query('select count(*)::int as left from graphile_worker._private_jobs')
    const ended = jobs - rows[0].left
    return { ended, perSecond: (ended - 1) / ((last - first) / 1000) }
  },
})
