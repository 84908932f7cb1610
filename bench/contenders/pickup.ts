import { type Process, startModule } from '../core/process.ts'
import type { Contender } from '../core/scenario.ts'
import type { Server } from '../core/server.ts'
import { quantile } from '../core/stats.ts'
import type { Enqueue, Enqueued, Mark } from './pickup-process.ts'

/** Jobs are enqueued at fixed times, each in its own transaction. */
export interface PickupLoad {
  perSecond: number
  seconds: number
}

export interface PickupProcesses {
  worker: Process
  enqueuer: Process
}

/** Measures the time from the commit that enqueues a job until its handler starts. */
export const pickup = (
  name: string,
  database: string,
  start: (server: Server, directory: string) => Promise<PickupProcesses>,
): Contender<PickupLoad> => ({
  name,
  async open({ server, directory }) {
    const { worker, enqueuer } = await start(server, directory)
    let first = 0
    return {
      async measure({ perSecond, seconds }) {
        const jobs = perSecond * seconds
        const starting = receiveStarts(worker, first, jobs)
        enqueuer.send({ first, jobs, intervalMs: 1000 / perSecond } satisfies Enqueue)
        first += jobs
        const [enqueued, starts] = await Promise.all([enqueuer.receive<Enqueued[]>(), starting])
        const startOf = ({ sequence }: Enqueued) => starts.get(sequence) as number
        const latencies = enqueued.map((mark) => startOf(mark) - mark.at)
        const whole = enqueued.map((mark) => startOf(mark) - mark.from)
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

/** Returns for each job, by sequence number, the time at which its handler first started. */
async function receiveStarts(worker: Process, first: number, jobs: number): Promise<Map<number, number>> {
  const starts = new Map<number, number>()
  while (starts.size < jobs) {
    const { sequence, at } = await worker.receive<Mark>()
    if (sequence >= first && !starts.has(sequence)) starts.set(sequence, at)
  }
  return starts
}

/** Another job system. It runs in a module of the bench, which runs or enqueues jobs, depending on ROLE. */
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
      await started.receive()
      return started
    }
    // The worker creates the schema, so it starts first.
    return { worker: await start('work'), enqueuer: await start('enqueue') }
  })
}
