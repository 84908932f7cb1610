// graphile-worker with 24 concurrent jobs, without the local queue: a killed worker would leave all jobs of its local
// queue locked for four hours. Runs jobs if ROLE is `work`, otherwise enqueues them.
import { Logger, makeWorkerUtils, run } from 'graphile-worker'
import { ready } from '../core/module.ts'
import { queueNames, runJob, serveProducer } from './cell-process.ts'

const connectionString = process.env.DATABASE_URL as string
// A log line per job would slow graphile-worker down.
const logger = new Logger(() => (level, message) => {
  if (level === 'error' || level === 'warning') console.error(message)
})

if (process.env.ROLE === 'work') {
  const task = (payload: unknown) => runJob((payload as { sequence: number }).sequence)
  const runner = await run({
    preset: { worker: { connectionString, concurrentJobs: 24, maxPoolSize: 26 } },
    logger,
    noHandleSignals: true,
    taskList: Object.fromEntries(queueNames.map((name) => [name, task])),
  })
  ready()
  // As in the documentation: the process ends when the runner does, and its supervisor starts a new one.
  runner.promise.then(
    () => process.exit(0),
    (error) => {
      console.error(error)
      process.exit(1)
    },
  )
} else {
  const utils = await makeWorkerUtils({ connectionString, logger })
  serveProducer((queue, sequences) =>
    utils.addJobs(sequences.map((sequence) => ({ identifier: queue, payload: { sequence } }))),
  )
}
