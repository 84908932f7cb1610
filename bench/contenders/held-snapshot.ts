import pg from 'pg'
import { startFlow } from '../core/flow.ts'
import { type Process, startAccepted, startModule } from '../core/process.ts'
import type { Contender, Point, Sample } from '../core/scenario.ts'
import { cpuOf, query, type Server } from '../core/server.ts'
import { type TableState, tablesOf } from '../core/tables.ts'

/** Jobs flow; then a transaction is held open; then it ends. In seconds. */
export interface HoldLoad {
  mostUnderWay: number
  warmUp: number
  /** Measured before it, at its end, and after the recovery. */
  window: number
  hold: number
  recovery: number
  /** Between the points of the course. */
  every: number
  onCourse(contender: string, course: HeldCourse): void
}

/** How it went; the transaction begins at 0. */
export interface HeldCourse {
  points: readonly Point[]
  tables: readonly { when: string; tables: readonly TableState[] }[]
}

interface Parties {
  worker: Process
  feeder: Process
}

interface Held {
  name: string
  database: string
  open(server: Server): Promise<string>
  start(url: string, directory: string): Promise<Parties>
  /** That are emptied before each round. */
  tables: string
}

const held = ({ name, database, open, start, tables }: Held): Contender<HoldLoad> => ({
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

    async function measure(load: HoldLoad, { worker, feeder }: Parties): Promise<Sample> {
      const { window, hold, recovery, every } = load
      const states: { when: string; tables: readonly TableState[] }[] = []
      const look = async (when: string) => states.push({ when, tables: await tablesOf(databaseUrl) })
      const flow = startFlow(feeder, worker, load.mostUnderWay)
      const points: Point[] = []
      await flow.rate(load.warmUp)
      const begun = performance.now() + window * 1000
      let last = { at: performance.now(), ended: flow.ended() }
      const timer = setInterval(() => {
        const now = { at: performance.now(), ended: flow.ended() }
        const value = ((now.ended - last.ended) / (now.at - last.at)) * 1000
        points.push({ time: ((now.at + last.at) / 2 - begun) / 1000, value })
        last = now
      }, every * 1000)
      const holder = new pg.Client({ connectionString: databaseUrl })
      await holder.connect()
      try {
        const computed = [cpuOf(worker.pid), cpuOf(feeder.pid)] as const
        const before = await flow.rate(window)
        const part = (pid: number, until: number) => ((cpuOf(pid) - until) / window) * 100
        const cpu = { workerCpu: part(worker.pid, computed[0]), feederCpu: part(feeder.pid, computed[1]) }
        await look('before')
        await holder.query('begin isolation level repeatable read')
        // The first statement takes the snapshot.
        await holder.query('select count(*) from pg_class')
        await flow.rate(hold - window)
        const during = await flow.rate(window)
        await look('at its end')
        await holder.query('commit')
        await flow.rate(recovery)
        const after = await flow.rate(window)
        await look('after the recovery')
        load.onCourse(name, { points, tables: states })
        const dead = (index: number) => states[index]?.tables.reduce((sum, table) => sum + table.dead, 0) ?? 0
        const failed = await flow.stop()
        return { during: during / before, after: after / before, before, dead: dead(1), failed, ...cpu }
      } finally {
        clearInterval(timer)
        await holder.end()
      }
    }
  },
})

/** Ours: jobs with keys, whose handler does nothing. */
export const heldAccepted = held({
  name: 'Accepted',
  database: 'held_accepted',
  open: (server) => server.createOurs('held_accepted'),
  async start(url, directory) {
    const env = { DATABASE_URL: url }
    const worker = await startAccepted('worker', directory, env)
    const feeder = startModule('bench/contenders/flow-accepted-enqueue.ts', directory, env)
    await feeder.hear()
    return { worker, feeder }
  },
  tables: 'accepted.job, accepted.processed_key, pgboss.job',
})

/** pg-boss tuned, whose handler does nothing. */
export const heldPgBoss = held({
  name: 'pg-boss, tuned',
  database: 'held_pg_boss',
  open: (server) => server.createDatabase('held_pg_boss'),
  async start(url, directory) {
    const start = async (role: string) => {
      const started = startModule('bench/contenders/flow-pg-boss.ts', directory, { DATABASE_URL: url, ROLE: role })
      await started.hear()
      return started
    }
    // The worker makes the schema.
    return { worker: await start('work'), feeder: await start('feed') }
  },
  tables: 'pgboss.job',
})
