import { startCost } from '../core/cost.ts'
import { startFlow } from '../core/flow.ts'
import { cpuOf, memoryOf } from '../core/proc.ts'
import { startAccepted, startModule } from '../core/process.ts'
import type { Contender, Point } from '../core/scenario.ts'
import { type TableStatistics, tablesOf } from '../core/tables.ts'

/** The API accepts requests and the worker runs their jobs. The figures are measured per window of time. */
export interface SoakLoad {
  windowCount: number
  secondsPerWindow: number
  maxJobsInFlight: number
  onWindow(window: SoakWindow): void
}

/** Figures of a window, or of the moment at its end. */
export interface SoakWindow {
  /** Seconds since the start. */
  end: number
  perSecond: number
  /** Jobs completed per second, within the window. */
  points: readonly Point[]
  tables: readonly TableStatistics[]
  /** In bytes. */
  apiMemory: number
  workerMemory: number
  /** In percent of a core. */
  cpu: { api: number; worker: number; feeder: number; postgres: number }
  /** Per completed job. */
  walBytes: number
}

const pointsPerWindow = 5
/** V8 compiles code in the first seconds. */
const warmUpSeconds = 30
const quickWarmUpSeconds = 0.5

/** An API, a worker, and a client that sends a new request for each completed job. */
export const soak: Contender<SoakLoad> = {
  name: 'Accepted, API + worker',
  async open({ server, directory, quick, log }) {
    const database = 'soak'
    const databaseUrl = await server.createOurs(database)
    const env = { DATABASE_URL: databaseUrl }
    const [api, worker] = await Promise.all([
      startAccepted('api', directory, env),
      startAccepted('worker', directory, env),
    ])
    const feeder = startModule('bench/load/flow-http.ts', directory, { TARGET: `${api.url}/counted-notes` })
    await feeder.receive()
    return {
      async measure({ windowCount, secondsPerWindow, maxJobsInFlight, onWindow }) {
        const flow = startFlow(feeder, worker, maxJobsInFlight)
        await flow.rate(quick ? quickWarmUpSeconds : warmUpSeconds)
        const [before, begun] = [flow.completed(), performance.now()]
        const elapsed = () => (performance.now() - begun) / 1000
        const measureWindow = async (): Promise<SoakWindow> => {
          const [first, from] = [flow.completed(), elapsed()]
          const cpuBefore = { api: cpuOf(api.pid), worker: cpuOf(worker.pid), feeder: cpuOf(feeder.pid) }
          const stopCost = await startCost(server, database, [])
          const points: Point[] = []
          for (let point = 0; point < pointsPerWindow; point++) {
            const value = await flow.rate(secondsPerWindow / pointsPerWindow)
            points.push({ time: elapsed(), value })
          }
          const duration = elapsed() - from
          const jobs = flow.completed() - first
          const { postgresCpu, walBytes } = await stopCost()
          const percent = (cpu: number) => (cpu / duration) * 100
          return {
            end: elapsed(),
            perSecond: jobs / duration,
            points,
            tables: await tablesOf(databaseUrl),
            apiMemory: memoryOf(api.pid),
            workerMemory: memoryOf(worker.pid),
            cpu: {
              api: percent(cpuOf(api.pid) - cpuBefore.api),
              worker: percent(cpuOf(worker.pid) - cpuBefore.worker),
              feeder: percent(cpuOf(feeder.pid) - cpuBefore.feeder),
              postgres: percent(postgresCpu),
            },
            walBytes: walBytes / jobs,
          }
        }
        for (let index = 1; index <= windowCount; index++) {
          const window = await measureWindow()
          onWindow(window)
          if (!quick) log(`window ${index} of ${windowCount} · ${Math.round(window.perSecond)} jobs/s`)
        }
        const jobs = flow.completed() - before
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
