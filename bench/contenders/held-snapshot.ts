import pg from 'pg'
import { costPer, startCost } from '../core/cost.ts'
import { type Flow, startFlow } from '../core/flow.ts'
import { type Process, startAccepted, startModule } from '../core/process.ts'
import type { Contender, Point } from '../core/scenario.ts'
import type { Sample } from '../core/series.ts'
import { query, type Server } from '../core/server.ts'
import { type TableStatistics, tablesOf } from '../core/tables.ts'

/** A new job is enqueued for each completed job. Meanwhile, a transaction stays open for `holdSeconds`. */
export interface HoldLoad {
  maxJobsInFlight: number
  warmUpSeconds: number
  /** The length of each of three measurements: before the transaction, at its end, and after the recovery. */
  windowSeconds: number
  holdSeconds: number
  recoverySeconds: number
  /** The interval between the points of the chart. */
  pointIntervalSeconds: number
  onTimeline(contender: string, timeline: HoldTimeline): void
}

/** Times are in seconds since the transaction began. */
export interface HoldTimeline {
  points: readonly Point[]
  tables: readonly { when: string; tables: readonly TableStatistics[] }[]
}

interface Processes {
  worker: Process
  feeder: Process
}

interface HoldContender {
  name: string
  /** Whether a transaction is held open. If not, the contender shows what changes over time without it. */
  isHeld: boolean
  database: string
  open(server: Server): Promise<string>
  start(url: string, directory: string): Promise<Processes>
  /** The tables to truncate before each round. */
  tables: string
}

const holdContender = ({ name, isHeld, database, open, start, tables }: HoldContender): Contender<HoldLoad> => ({
  name,
  async open({ server, directory }) {
    const databaseUrl = await open(server)
    return {
      async measure(load) {
        const { worker, feeder } = await start(databaseUrl, directory)
        try {
          await query(databaseUrl, `truncate ${tables}`)
          return await measure(load, { worker, feeder })
        } finally {
          await Promise.all([feeder.stop(), worker.stop()])
        }
      },
      close: () => server.dropDatabase(database),
    }

    async function measure(load: HoldLoad, { worker, feeder }: Processes): Promise<Sample> {
      const { windowSeconds, holdSeconds, recoverySeconds, pointIntervalSeconds } = load
      const statistics: { when: string; tables: readonly TableStatistics[] }[] = []
      const readTables = async (when: string) => statistics.push({ when, tables: await tablesOf(databaseUrl) })
      const flow = startFlow(feeder, worker, load.maxJobsInFlight)
      await flow.rate(load.warmUpSeconds)
      const timeline = recordRate(flow, { pointIntervalSeconds, from: performance.now() + windowSeconds * 1000 })
      const measureWindow = async () => {
        const stopCost = await startCost(server, database, [worker.pid, feeder.pid])
        const rate = await flow.rate(windowSeconds)
        return { rate, ...costPer(await stopCost(), rate * windowSeconds) }
      }
      const holder = new pg.Client({ connectionString: databaseUrl })
      await holder.connect()
      try {
        const before = await measureWindow()
        await readTables('before the transaction')
        if (isHeld) {
          await holder.query('begin isolation level repeatable read')
          // The first statement takes the snapshot.
          await holder.query('select count(*) from pg_class')
        }
        await flow.rate(holdSeconds - windowSeconds)
        const during = await measureWindow()
        await readTables('at the end of the transaction')
        if (isHeld) await holder.query('commit')
        await flow.rate(recoverySeconds)
        const after = await measureWindow()
        await readTables('after the recovery')
        load.onTimeline(name, { points: timeline.points, tables: statistics })
        const dead = statistics[1]?.tables.reduce((sum, table) => sum + table.dead, 0) ?? 0
        return {
          during: during.rate,
          after: after.rate,
          before: before.rate,
          dead,
          failed: await flow.stop(),
          cpuBefore: before.postgresCpu,
          cpuDuring: during.postgresCpu,
          walBefore: before.walBytes,
          walDuring: during.walBytes,
          processCpu: during.processCpu,
        }
      } finally {
        timeline.stop()
        await holder.end()
      }
    }
  },
})

/** Records the completed jobs per second at intervals. Times are relative to `from`, a value of `performance.now()`. */
function recordRate(flow: Flow, { pointIntervalSeconds, from }: { pointIntervalSeconds: number; from: number }) {
  const points: Point[] = []
  let last = { at: performance.now(), completed: flow.completed() }
  const timer = setInterval(() => {
    const now = { at: performance.now(), completed: flow.completed() }
    const value = ((now.completed - last.completed) / (now.at - last.at)) * 1000
    points.push({ time: ((now.at + last.at) / 2 - from) / 1000, value })
    last = now
  }, pointIntervalSeconds * 1000)
  return { points, stop: () => clearInterval(timer) }
}

/** Accepted with jobs that have idempotency keys. The handler does nothing. */
const accepted = (name: string, database: string, isHeld: boolean) =>
  holdContender({
    name,
    isHeld,
    database,
    open: (server) => server.createOurs(database),
    async start(url, directory) {
      const env = { DATABASE_URL: url }
      const worker = await startAccepted('worker', directory, env)
      const feeder = startModule('bench/contenders/flow-accepted-enqueue.ts', directory, env)
      await feeder.receive()
      return { worker, feeder }
    },
    tables: 'accepted.job, accepted.processed_key, accepted_queue.job',
  })

export const heldAccepted = accepted('Accepted', 'held_accepted', true)

/** The same load for the same time, without an open transaction. */
export const freeAccepted = accepted('Accepted, no open transaction', 'free_accepted', false)

/** pg-boss, tuned for throughput. The handler does nothing. */
export const heldPgBoss = holdContender({
  name: 'pg-boss, tuned',
  isHeld: true,
  database: 'held_pg_boss',
  open: (server) => server.createDatabase('held_pg_boss'),
  async start(url, directory) {
    const start = async (role: string) => {
      const started = startModule('bench/contenders/flow-pg-boss.ts', directory, { DATABASE_URL: url, ROLE: role })
      await started.receive()
      return started
    }
    // The worker creates the schema, so it starts first.
    return { worker: await start('work'), feeder: await start('feed') }
  },
  tables: 'pgboss.job',
})
