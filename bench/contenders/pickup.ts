import { type Process, startModule } from '../core/process.ts'
import type { Contender } from '../core/scenario.ts'
import type { Server } from '../core/server.ts'
import { quantile } from '../core/stats.ts'
import type { Enqueue, Enqueued, Mark } from './pickup-process.ts'

/** So many jobs a second are enqueued at fixed times, each in a transaction of its own. */
export interface PickupLoad {
  perSecond: number
  seconds: number
}

/** The processes of a contender. */
export interface Pickup {
  worker: Process
  enqueuer: Process
}

/** How long after the commit of its enqueue the handler of a job begins. */
export const pickup = (
  name: string,
  database: string,
  start: (server: Server, directory: string) => Promise<Pickup>,
): Contender<PickupLoad> => ({
  name,
  async open({ server, directory }) {
    const { worker, enqueuer } = await start(server, directory)
    let first = 0
    return {
      async measure({ perSecond, seconds }) {
        const jobs = perSecond * seconds
        const begun = collect(worker, first, jobs)
        enqueuer.send({ first, jobs, every: 1000 / perSecond } satisfies Enqueue)
        first += jobs
        const [marks, begins] = await Promise.all([enqueuer.hear<Enqueued[]>(), begun])
        const begunAt = ({ sequence }: Enqueued) => begins.get(sequence) as number
        const latencies = marks.map((mark) => begunAt(mark) - mark.at)
        const whole = marks.map((mark) => begunAt(mark) - mark.from)
        return {
          p50: quantile(latencies, 0.5),
          p99: quantile(latencies, 0.99),
          max: Math.max(...latencies),
          wholeP50: quantile(whole, 0.5),
          wholeP99: quantile(whole, 0.99),
        }
      },
      async close() {
        await enqueuer.stop()
        await worker.stop()
        await server.dropDatabase(database)
      },
    }
  },
})

/** When each job was first begun. */
async function collect(worker: Process, first: number, jobs: number): Promise<Map<number, number>> {
  const begins = new Map<number, number>()
  while (begins.size < jobs) {
    const { sequence, at } = await worker.hear<Mark>()
    if (sequence >= first && !begins.has(sequence)) begins.set(sequence, at)
  }
  return begins
}

/** A peer: a module of the bench that works or enqueues, as ROLE says. */
export const pickupPeer = (name: string, module: string, more: NodeJS.ProcessEnv = {}): Contender<PickupLoad> => {
  const database = `pickup_${name.replaceAll(/\W+/g, '_').toLowerCase()}`
  return pickup(name, database, async (server, directory) => {
    const databaseUrl = await server.createDatabase(database)
    const start = async (role: string) => {
      const started = startModule(`bench/contenders/${module}`, directory, {
        ...more,
        DATABASE_URL: databaseUrl,
        ROLE: role,
      })
      await started.hear()
      return started
    }
    // The worker makes the schema.
    return { worker: await start('work'), enqueuer: await start('enqueue') }
  })
}
