import { costPer, startCost } from '../core/cost.ts'
import { startModule } from '../core/process.ts'
import type { Contender, Metric } from '../core/scenario.ts'
import { query } from '../core/server.ts'
import type { DrainCommand, Drained, DrainLoad } from './drain-process.ts'

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
  /** For the module. */
  env?: NodeJS.ProcessEnv
  /** The fraction of the jobs that it gets; a slow contender needs fewer. */
  share?: number
  /** For a contender that would not finish in reasonable time. */
  atMostSeconds?: number
}

/** Another job system, in a module of the bench that calls {@link serveDrainer}. */
export const drainPeer = ({
  name,
  module,
  env = {},
  share = 1,
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
          jobs: Math.ceil(whole.jobs * share),
          atMostSeconds: Math.min(whole.atMostSeconds, atMostSeconds),
        }
        process.send({ fill: load.jobs } satisfies DrainCommand)
        await process.receive()
        await analyzeAndCheckpoint(databaseUrl)
        const stopCost = await startCost(server, database, [process.pid])
        process.send({ drain: load } satisfies DrainCommand)
        const drained = await process.receive<Drained>((load.atMostSeconds + 60) * 1000)
        return { ...drained, ...costPer(await stopCost(), drained.completed) }
      },
      async close() {
        await process.stop()
        await server.dropDatabase(database)
      },
    }
  },
})

/** Updates the planner's statistics, and writes to disk what filling the tables has left in memory. */
export async function analyzeAndCheckpoint(url: string): Promise<void> {
  await query(url, 'analyze')
  await query(url, 'checkpoint')
}
