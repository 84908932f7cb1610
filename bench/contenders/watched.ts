import { deferJobs, releaseJobs } from '../core/defer.ts'
import { collectGarbage, inspectable } from '../core/inspector.ts'
import { freePort, type Process, startAccepted, startModule } from '../core/process.ts'
import type { Contender, Sample } from '../core/scenario.ts'
import { memoryOf, query } from '../core/server.ts'
import type { Order, Told, Watch } from '../load/watchers.ts'

/** So long those who watch may take for anything, in milliseconds. */
const patience = 330_000

/** So many streams that are open at a time, and who opens them. */
export interface WatchLoad {
  watchers: Process
  streams: number
}

/** What is watched, of the jobs that wait. */
interface Kind {
  name: string
  pathsOf(ids: readonly string[]): string[]
  /** What is told at once when a stream begins. */
  eventsAtStart: number
  /** The jobs that end. */
  endingOf(ids: readonly string[]): readonly string[]
}

/** As many as a stream of all jobs begins with. */
const waitingJobs = 100

export const principal: Kind = {
  name: 'Accepted, all jobs of a principal',
  pathsOf: () => ['/events'],
  eventsAtStart: waitingJobs,
  endingOf: (ids) => ids.slice(0, 1),
}

export const singleJobs: Kind = {
  name: `Accepted, one job each, of ${waitingJobs}`,
  pathsOf: (ids) => ids.map((id) => `/jobs/${id}/events`),
  eventsAtStart: 1,
  endingOf: (ids) => ids,
}

/** One API process, which is new each time, for what it has in memory is measured, and a worker that ends the jobs. */
export const watched = ({ name, ...kind }: Kind): Contender<WatchLoad> => ({
  name,
  async open({ server, directory }) {
    const database = `watched_${kind.eventsAtStart}`
    const databaseUrl = await server.createOurs(database)
    return {
      async measure(load) {
        const inspector = await freePort()
        const [api, worker] = await Promise.all([
          startAccepted('api', directory, { DATABASE_URL: databaseUrl, ...inspectable(inspector) }),
          startAccepted('worker', directory, { DATABASE_URL: databaseUrl }),
        ])
        try {
          const ids = await deferJobs(databaseUrl, 'anonymous', waitingJobs)
          const watch = {
            port: Number(new URL(api.url).port),
            paths: kind.pathsOf(ids),
            eventsAtStart: kind.eventsAtStart,
            ending: kind.endingOf(ids),
          }
          const end = () => releaseJobs(databaseUrl, watch.ending)
          const connections = () => connectionsIn(databaseUrl)
          return await measureStreams(load, { process: api, inspector, watch, end, connections })
        } finally {
          await Promise.all([api.stop(), worker.stop()])
        }
      },
      close: () => server.dropDatabase(database),
    }
  },
})

/** Node.js alone. */
export const bare: Contender<WatchLoad> = {
  name: 'Node.js alone',
  open: async ({ directory }) => ({
    async measure(load) {
      const inspector = await freePort()
      const process = startModule('bench/contenders/sse-bare.ts', directory, inspectable(inspector))
      try {
        const { port } = await process.hear<{ port: number }>()
        const watch = { port, paths: ['/'], eventsAtStart: 0, ending: ['1'] }
        return await measureStreams(load, { process, inspector, watch, end: async () => process.send({}) })
      } finally {
        await process.stop()
      }
    },
    close: async () => {},
  }),
}

interface Streaming {
  process: Process
  /** The port of its inspector. */
  inspector: number
  watch: Omit<Watch, 'streams'>
  end(): Promise<unknown>
  /** To Postgres. */
  connections?(): Promise<Sample>
}

async function measureStreams(
  { watchers, streams }: WatchLoad,
  { process, inspector, watch, end, connections }: Streaming,
): Promise<Sample> {
  const ask = <Answer>(order: Order) => {
    watchers.send(order)
    return watchers.hear<Answer>(patience)
  }
  const open = (streams: number) => ask<{ seconds: number }>({ do: 'open', watch: { ...watch, streams } })
  try {
    // What the first streams take is the program's, not theirs.
    await open(Math.ceil(streams / 20))
    await ask({ do: 'close' })
    await collectGarbage(process.pid, inspector)
    const before = memoryOf(process.pid)
    const perStream = () => (memoryOf(process.pid) - before) / streams / 1000
    const { seconds } = await open(streams)
    const resident = perStream()
    await collectGarbage(process.pid, inspector)
    const memory = perStream()
    const held = await connections?.()
    await end()
    const { half, all } = await ask<Told>({ do: 'await-end' })
    return { all, half, memory, resident, ...held, opened: streams / seconds }
  } finally {
    await ask({ do: 'close' })
  }
}

async function connectionsIn(url: string): Promise<Sample> {
  const [row] = await query<{ pool: string; others: string }>(
    url,
    `select count(*) filter (where application_name = 'accepted api') as pool,
      count(*) filter (where application_name <> 'accepted api') as others
    from pg_stat_activity
    where datname = current_database() and application_name not like 'accepted worker%' and pid <> pg_backend_pid()`,
  )
  return { pool: Number(row?.pool), others: Number(row?.others) }
}
