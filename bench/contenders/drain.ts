import { costPer, startCost } from '../core/cost.ts'
import { startModule } from '../core/process.ts'
import type { Contender, Metric } from '../core/scenario.ts'
import { query } from '../core/server.ts'
import { type DrainCommand, type Drained, type DrainLoad, replyMarginSeconds } from './drain-process.ts'

export const drainMetrics: readonly Metric[] = [
  { name: 'perSecond', label: 'jobs/s' },
  { name: 'completed', label: 'jobs completed' },
  { name: 'walBytes', label: 'WAL bytes/job' },
  { name: 'commits', label: 'commits/job' },
  { name: 'postgresCpu', label: 'Postgres CPU (µs/job)' },
  { name: 'processCpu', label: 'worker CPU (µs/job)' },
  { name: 'redisCpu', label: 'Redis CPU (µs/job)' },
  { name: 'hot', label: 'HOT status updates (%)' },
  { name: 'dead', label: 'dead rows/job' },
]

export interface DrainPeer {
  name: string
  /** A file in bench/contenders. */
  module: string
  /** Environment variables for the module. */
  env?: NodeJS.ProcessEnv
  /** The fraction of the jobs that the contender gets. A slow contender gets fewer jobs. Default: 1. */
  jobShare?: number
  /** Stops a contender that would take too long. Default: no limit. */
  atMostSeconds?: number
}

/** Another job system. It runs in a module of the bench that calls {@link serveDrainer}. */
export const drainPeer = ({
  name,
  module,
  env = {},
  jobShare = 1,
  atMostSeconds = Number.POSITIVE_INFINITY,
}: DrainPeer): Contender<DrainLoad> => ({
  name,
  async open({ server, directory }) {
    const database = `drain_${name.replaceAll(/\W+/g, '_').toLowerCase()}`
    const databaseUrl = await server.createDatabase(database)
    const process = startModule(`bench/contenders/${module}`, directory, { ...env, DATABASE_URL: databaseUrl })
    await process.receive()
    return {
      async measure(whole) {
        const load = {
          jobs: Math.ceil(whole.jobs * jobShare),
          atMostSeconds: Math.min(whole.atMostSeconds, atMostSeconds),
        }
        process.send({ fill: load.jobs } satisfies DrainCommand)
        await process.receive()
        await analyzeAndCheckpoint(databaseUrl)
        const stopCost = await startCost(server, database, [process.pid])
        process.send({ drain: load } satisfies DrainCommand)
        const drained = await process.receive<Drained>((load.atMostSeconds + replyMarginSeconds) * 1000)
        return { ...drained, ...costPer(await stopCost(), drained.completed) }
      },
      async close() {
        await process.stop()
        await server.dropDatabase(database)
      },
    }
  },
})

/** Updates the planner's statistics, and writes all changed pages to disk. */
export async function analyzeAndCheckpoint(url: string): Promise<void> {
  await query(url, 'analyze')
  await query(url, 'checkpoint')
}
