import { prepareQueues, startBoss } from '../../src/db/boss.ts'
import { openDatabase } from '../../src/db/database.ts'
import { createCounted } from '../app/operations.ts'
import { startFlow } from '../core/flow.ts'
import { startAccepted, startModule } from '../core/process.ts'
import type { Contender, Point } from '../core/scenario.ts'
import { cpuOf, memoryOf, startCost } from '../core/server.ts'
import { type TableState, tablesOf } from '../core/tables.ts'

/** Requests are accepted and worked on, window after window. */
export interface SoakLoad {
  windows: number
  secondsEach: number
  mostUnderWay: number
  /** What has ended is deleted from the queue after so many seconds, when the worker looks next. */
  deleteAfterSeconds: number
  onWindow(window: SoakWindow): void
}

/** How it stands at the end of a window. */
export interface SoakWindow {
  /** In seconds since the begin. */
  end: number
  perSecond: number
  /** Within it. */
  points: readonly Point[]
  tables: readonly TableState[]
  /** In bytes. */
  apiMemory: number
  workerMemory: number
  /** In percent of a core. */
  cpu: { api: number; worker: number; feeder: number; postgres: number }
  /** For each job that ended. */
  walBytes: number
}

/** Points of the course in a window. */
const pointsEach = 5

/** An API and a worker, and a client that sends another request for each job that has ended. */
export const soak: Contender<SoakLoad> = {
  name: 'Accepted, API + worker',
  async open({ server, directory, quick, say }) {
    const database = 'soak'
    const databaseUrl = await server.createOurs(database)
    const env = { DATABASE_URL: databaseUrl }
    const [api, worker] = await Promise.all([
      startAccepted('api', directory, env),
      startAccepted('worker', directory, env),
    ])
    const feeder = startModule('bench/load/flow-http.ts', directory, { TARGET: `${api.url}/counted-notes` })
    await feeder.hear()
    return {
      async measure({ windows, secondsEach, mostUnderWay, deleteAfterSeconds, onWindow }) {
        await shortenRetention(databaseUrl, deleteAfterSeconds)
        const flow = startFlow(feeder, worker, mostUnderWay)
        // The first seconds belong to the compiler.
        await flow.rate(quick ? 0.5 : 30)
        const [before, begun] = [flow.ended(), performance.now()]
        const elapsed = () => (performance.now() - begun) / 1000
        const measureWindow = async (): Promise<SoakWindow> => {
          const [first, from] = [flow.ended(), elapsed()]
          const computed = { api: cpuOf(api.pid), worker: cpuOf(worker.pid), feeder: cpuOf(feeder.pid) }
          const cost = await startCost(server, database, [])
          const points: Point[] = []
          for (let point = 0; point < pointsEach; point++) {
            const value = await flow.rate(secondsEach / pointsEach)
            points.push({ time: elapsed(), value })
          }
          const took = elapsed() - from
          const jobs = flow.ended() - first
          const { postgresCpu, walBytes } = await cost()
          const part = (cpu: number) => (cpu / took) * 100
          return {
            end: elapsed(),
            perSecond: jobs / took,
            points,
            tables: await tablesOf(databaseUrl),
            apiMemory: memoryOf(api.pid),
            workerMemory: memoryOf(worker.pid),
            cpu: {
              api: part(cpuOf(api.pid) - computed.api),
              worker: part(cpuOf(worker.pid) - computed.worker),
              feeder: part(cpuOf(feeder.pid) - computed.feeder),
              postgres: part(postgresCpu),
            },
            walBytes: walBytes / jobs,
          }
        }
        for (let index = 1; index <= windows; index++) {
          const window = await measureWindow()
          onWindow(window)
          if (!quick) say(`window ${index} of ${windows} · ${Math.round(window.perSecond)} jobs a second`)
        }
        const jobs = flow.ended() - before
        return { perSecond: jobs / elapsed(), jobs, failed: await flow.stop() }
      },
      async close() {
        await feeder.stop()
        await Promise.all([api.stop(), worker.stop()])
        await server.dropDatabase(database)
      },
    }
  },
}

/** By the queue's own setting, which API and worker write when they start, and read with each job. */
async function shortenRetention(url: string, deleteAfterSeconds: number): Promise<void> {
  const database = openDatabase({ url, poolSize: 1 })
  const boss = await startBoss(database, { supervise: false, onError: (error) => console.error(error) })
  try {
    await prepareQueues(boss, [createCounted])
    await boss.updateQueue(createCounted.name, { deleteAfterSeconds })
  } finally {
    await boss.stop({ graceful: false })
    await database.close()
  }
}
