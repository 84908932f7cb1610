import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { now } from '../core/clock.ts'
import { format } from '../core/format.ts'
import type { Supervised } from '../core/supervisor.ts'

/** What a fault can act on. */
export interface FaultContext {
  /** The length of the phase, in seconds. */
  seconds: number
  databaseUrl: string
  /** The URL of another database of the same server. */
  adminUrl: string
  workers: readonly Supervised[]
  hotTables: readonly string[]
  /** Changes the load of the producer. */
  setLoad(load: { factor?: number; queues?: number }): void
  stopServer(): Promise<void>
  startServer(): Promise<void>
}

/** A fault that has begun. */
export interface Fault {
  /** When the fault ended, as a value of `now`. Default: the end of the phase. */
  endedAt?: number
  /** Ends a fault that lasts until the end of the phase. */
  lift?(): Promise<unknown>
}

export interface Cell {
  name: string
  /** One sentence for the report. The phase has `seconds`. */
  describe(seconds: number): string
  /** Called at the beginning of the phase. Resolves at the latest at the end of the phase. */
  begin(context: FaultContext): Promise<Fault>
}

const killsPerPhase = 6
const terminationIntervalMs = 500
const idleConnections = 300
const readers = 4
const readIntervalMs = 100
const highLoad = 1.5
const mixedQueues = 4

/** The cells of https://github.com/hardbyte/postgresql-job-queue-benchmarking: five of chaos, then four of pressure. */
export const cells: readonly Cell[] = [
  {
    name: 'SIGKILL of a worker',
    describe: () => 'One of the two workers is killed at the beginning of the phase.',
    async begin({ workers }) {
      workers[0]?.kill()
      return { endedAt: now() }
    },
  },
  {
    name: 'Postgres restart',
    describe: (seconds) => `Postgres is stopped (mode \`fast\`) and starts again ${format(seconds / 2)} s later.`,
    async begin({ seconds, stopServer, startServer }) {
      const begun = now()
      await stopServer()
      await delay(Math.max(0, begun + seconds * 500 - now()))
      await startServer()
      return { endedAt: now() }
    },
  },
  {
    name: 'repeated kills',
    describe: (seconds) =>
      `The same worker is killed ${killsPerPhase} times, every ${format(seconds / killsPerPhase)} s.`,
    async begin({ seconds, workers }) {
      let endedAt = now()
      for (let kill = 1; kill <= killsPerPhase; kill++) {
        workers[0]?.kill()
        endedAt = now()
        if (kill < killsPerPhase) await delay((seconds * 1000) / killsPerPhase)
      }
      return { endedAt }
    },
  },
  {
    name: 'pg_terminate_backend',
    describe: () =>
      'Twice a second, `pg_terminate_backend` ends every session of the database that runs a statement or has an open transaction.',
    async begin({ seconds, databaseUrl, adminUrl }) {
      const database = new URL(databaseUrl).pathname.slice(1)
      const admin = await connect(adminUrl)
      try {
        const until = now() + seconds * 1000
        for (; now() < until; await delay(terminationIntervalMs)) {
          await admin.query(
            `select pg_terminate_backend(pid) from pg_stat_activity
            where datname = $1 and state in ('active', 'idle in transaction')`,
            [database],
          )
        }
      } finally {
        await admin.end()
      }
      return {}
    },
  },
  {
    name: '300 idle connections',
    describe: () => `${idleConnections} further sessions are idle. The server allows 400.`,
    async begin({ databaseUrl }) {
      const idle: pg.Client[] = []
      for (let count = 0; count < idleConnections; count++) idle.push(await connect(databaseUrl))
      return { lift: () => Promise.all(idle.map((client) => client.end())) }
    },
  },
  {
    name: 'high load',
    describe: () => `The producer enqueues ${highLoad} times as many jobs.`,
    async begin({ setLoad }) {
      setLoad({ factor: highLoad })
      return { lift: async () => setLoad({}) }
    },
  },
  {
    name: 'open transaction',
    describe: () => 'A transaction with a transaction id stays open and idle.',
    async begin({ databaseUrl }) {
      const holder = await connect(databaseUrl)
      await holder.query('begin')
      await holder.query('select txid_current()')
      return { lift: () => holder.end() }
    },
  },
  {
    name: 'four readers',
    describe: () =>
      `${readers} transactions at the isolation level repeatable read stay open. Each counts the rows of the hot tables, again ${readIntervalMs} ms later.`,
    async begin({ databaseUrl, hotTables }) {
      const stop = new AbortController()
      const reading = Array.from({ length: readers }, async () => {
        const reader = await connect(databaseUrl)
        await reader.query('begin isolation level repeatable read')
        for (; !stop.signal.aborted; await delay(readIntervalMs)) {
          for (const table of hotTables) await reader.query(`select count(*) from ${table}`)
        }
        await reader.end()
      })
      return {
        lift() {
          stop.abort()
          return Promise.all(reading)
        },
      }
    },
  },
  {
    name: 'mix of queues',
    describe: () => `The producer uses ${mixedQueues} queues, in turn for each transaction.`,
    async begin({ setLoad }) {
      setLoad({ queues: mixedQueues })
      return { lift: async () => setLoad({}) }
    },
  },
]

async function connect(connectionString: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString, application_name: 'bench-fault' })
  // A connection that breaks while idle also rejects its next statement.
  client.on('error', () => {})
  await client.connect()
  return client
}
