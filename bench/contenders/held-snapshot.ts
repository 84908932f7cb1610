import pg from 'pg'
import { type Flow, startFlow } from '../core/flow.ts'
import { type Process, startAccepted, startModule } from '../core/process.ts'
import type { Contender, Point, Sample } from '../core/scenario.ts'
import { costPer, query, type Server, startCost } from '../core/server.ts'
import { type TableState, tablesOf } from '../core/tables.ts'

/** Jobs flow; then a transaction is held open; then it ends. In seconds. */
export interface HoldLoad {
  mostUnderWay: number
  warmUp: number
  /** Measured before it, at its end, and from the recovery on. */
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
  /** Whether the transaction is there: without it, what else changes with time shows. */
  isHeld: boolean
  database: string
  open(server: Server): Promise<string>
  start(url: string, directory: string): Promise<Parties>
  /** That are emptied before each round. */
  tables: string
}

const held = ({ name, isHeld, database, open, start, tables }: Held): Contender<HoldLoad> => ({
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
      await flow.rate(load.warmUp)
      const course = follow(flow, { every, from: performance.now() + window * 1000 })
      const measureWindow = async () => {
        const end = await startCost(server, database, [worker.pid, feeder.pid])
        const rate = await flow.rate(window)
        return { rate, ...costPer(await end(), rate * window) }
      }
      const holder = new pg.Client({ connectionString: databaseUrl })
      await holder.connect()
      try {
        const before = await measureWindow()
        await look('before')
        if (isHeld) {
          await holder.query('begin isolation level repeatable read')
          // The first statement takes the snapshot.
          await holder.query('select count(*) from pg_class')
        }
        await flow.rate(hold - window)
        const during = await measureWindow()
        await look('at its end')
        if (isHeld) await holder.query('commit')
        await flow.rate(recovery)
        const after = await measureWindow()
        await look('after the recovery')
        load.onCourse(name, { points: course.points, tables: states })
        const dead = states[1]?.tables.reduce((sum, table) => sum + table.dead, 0) ?? 0
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
        course.stop()
        await holder.end()
      }
    }
  },
})

/** Jobs that ended a second, every few seconds, counted from some time on, per `performance.now()`. */
function follow(flow: Flow, { every, from }: { every: number; from: number }) {
  const points: Point[] = []
  let last = { at: performance.now(), ended: flow.ended() }
  const timer = setInterval(() => {
    const now = { at: performance.now(), ended: flow.ended() }
    const value = ((now.ended - last.ended) / (now.at - last.at)) * 1000
    points.push({ time: ((now.at + last.at) / 2 - from) / 1000, value })
    last = now
  }, every * 1000)
  return { points, stop: () => clearInterval(timer) }
}

/** Ours: jobs with keys, whose handler does nothing. */
const accepted = (name: string, database: string, isHeld: boolean) =>
  held({
    name,
    isHeld,
    database,
    open: (server) => server.createOurs(database),
    async start(url, directory) {
      const env = { DATABASE_URL: url }
      const worker = await startAccepted('worker', directory, env)
      const feeder = startModule('bench/contenders/flow-accepted-enqueue.ts', directory, env)
      await feeder.hear()
      return { worker, feeder }
    },
    tables: 'accepted.job, accepted.processed_key, pgboss.job',
  })

export const heldAccepted = accepted('Accepted', 'held_accepted', true)

/** The same, as long, and no transaction is held. */
export const freeAccepted = accepted('Accepted, nothing held', 'free_accepted', false)

/** pg-boss tuned, whose handler does nothing. */
export const heldPgBoss = held({
  name: 'pg-boss, tuned',
  isHeld: true,
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
