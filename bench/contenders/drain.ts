import { startModule } from '../core/process.ts'
import type { Contender, Metric } from '../core/scenario.ts'
import { costPer, query, startCost } from '../core/server.ts'
import type { DrainCommand, Drained, DrainLoad } from './drain-process.ts'

export const drainMetrics: readonly Metric[] = [
  { name: 'perSecond', unit: '1/s' },
  { name: 'ended', unit: 'jobs' },
  { name: 'walBytes', unit: 'bytes a job' },
  { name: 'commits', unit: 'a job' },
  { name: 'postgresCpu', unit: 'µs a job' },
  { name: 'processCpu', unit: 'µs a job' },
  { name: 'redisCpu', unit: 'µs a job' },
  { name: 'hot', unit: '% of status updates' },
  { name: 'dead', unit: 'rows a job' },
]

export interface DrainPeer {
  name: string
  /** In bench/contenders. */
  module: string
  /** For the module. */
  env?: NodeJS.ProcessEnv
  /** The part of the jobs that it gets: a slow one needs fewer. */
  part?: number
  /** It is stopped after so many seconds at the latest: what never drains them need not be waited for. */
  stopAfter?: number
}

/** A peer: a module of the bench that is a {@link Drainer}. */
export const drainPeer = ({
  name,
  module,
  env = {},
  part = 1,
  stopAfter = Number.POSITIVE_INFINITY,
}: DrainPeer): Contender<DrainLoad> => ({
  name,
  async open({ server, directory }) {
    const database = `drain_${name.replaceAll(/\W+/g, '_').toLowerCase()}`
    const databaseUrl = await server.createDatabase(database)
    const process = startModule(`bench/contenders/${module}`, directory, { ...env, DATABASE_URL: databaseUrl })
    await process.hear()
    return {
      async measure(whole) {
        const load = { jobs: Math.ceil(whole.jobs * part), atMostSeconds: Math.min(whole.atMostSeconds, stopAfter) }
        process.send({ fill: load.jobs } satisfies DrainCommand)
        await process.hear()
        await settleDown(databaseUrl)
        const end = await startCost(server, database, [process.pid])
        process.send({ drain: load } satisfies DrainCommand)
        const drained = await process.hear<Drained>((load.atMostSeconds + 60) * 1000)
        return { ...drained, ...costPer(await end(), drained.ended) }
      },
      async close() {
        await process.stop()
        await server.dropDatabase(database)
      },
    }
  },
})

/** Makes the planner know the tables as they are, and writes out what the filling has left to be written. */
export async function settleDown(url: string): Promise<void> {
  await query(url, 'analyze')
  await query(url, 'checkpoint')
}
