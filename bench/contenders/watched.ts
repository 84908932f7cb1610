import { collectGarbage, inspectable } from '../core/inspector.ts'
import { memoryOf } from '../core/proc.ts'
import { freePort, type Process, startAccepted, startModule } from '../core/process.ts'
import type { Contender } from '../core/scenario.ts'
import { makeDue, scheduleJobs } from '../core/scheduled-jobs.ts'
import type { Sample } from '../core/series.ts'
import { query } from '../core/server.ts'
import type { Delivery, Watch, WatchersCommand } from '../load/watchers.ts'

/** The timeout for a command to the watchers. It is longer than the timeouts in the watchers. */
const commandTimeoutMs = 330_000

export interface WatchLoad {
  /** The process that opens the streams. */
  watchers: Process
  streams: number
}

/** Describes which of the scheduled jobs the streams follow. */
interface WatchedJobs {
  name: string
  pathsOf(ids: readonly string[]): string[]
  /** The number of events with which a stream starts. */
  eventsAtStart: number
  /** The jobs that complete during the measurement. */
  endingOf(ids: readonly string[]): readonly string[]
}

/** A stream of all jobs starts with one event per scheduled job. */
const scheduledJobCount = 100

export const principal: WatchedJobs = {
  name: 'Accepted, all jobs of a principal',
  pathsOf: () => ['/events'],
  eventsAtStart: scheduledJobCount,
  endingOf: (ids) => ids.slice(0, 1),
}

export const singleJobs: WatchedJobs = {
  name: `Accepted, one job per stream (${scheduledJobCount} jobs)`,
  pathsOf: (ids) => ids.map((id) => `/jobs/${id}/events`),
  eventsAtStart: 1,
  endingOf: (ids) => ids,
}

/** An API and a worker. Each round starts new processes, because the memory of the API is measured. */
export const watched = ({ name, ...jobs }: WatchedJobs): Contender<WatchLoad> => ({
  name,
  async open({ server, directory }) {
    const database = `watched_${jobs.eventsAtStart}`
    const databaseUrl = await server.createOurs(database)
    return {
      async measure(load) {
        const inspector = await freePort()
        const [api, worker] = await Promise.all([
          startAccepted('api', directory, { DATABASE_URL: databaseUrl, ...inspectable(inspector) }),
          startAccepted('worker', directory, { DATABASE_URL: databaseUrl }),
        ])
        try {
          const ids = await scheduleJobs(databaseUrl, 'anonymous', scheduledJobCount)
          const watch = {
            port: Number(new URL(api.url).port),
            paths: jobs.pathsOf(ids),
            eventsAtStart: jobs.eventsAtStart,
            ending: jobs.endingOf(ids),
          }
          const completeJobs = () => makeDue(databaseUrl, watch.ending)
          const connections = () => connectionsIn(databaseUrl)
          return await measureStreams(load, { process: api, inspector, watch, completeJobs, connections })
        } finally {
          await Promise.all([api.stop(), worker.stop()])
        }
      },
      close: () => server.dropDatabase(database),
    }
  },
})

/** A server with bare Node.js, without a database. */
export const bare: Contender<WatchLoad> = {
  name: 'bare Node.js',
  open: async ({ directory }) => ({
    async measure(load) {
      const inspector = await freePort()
      const process = startModule('bench/contenders/sse-bare.ts', directory, inspectable(inspector))
      try {
        const { port } = await process.receive<{ port: number }>()
        const watch = { port, paths: ['/'], eventsAtStart: 0, ending: ['1'] }
        return await measureStreams(load, { process, inspector, watch, completeJobs: async () => process.send({}) })
      } finally {
        await process.stop()
      }
    },
    close: async () => {},
  }),
}

/** A process that serves streams. */
interface StreamServer {
  process: Process
  /** The port of its inspector. */
  inspector: number
  watch: Omit<Watch, 'streams'>
  completeJobs(): Promise<unknown>
  /** Counts connections to Postgres. */
  connections?(): Promise<Sample>
}

async function measureStreams(
  { watchers, streams }: WatchLoad,
  { process, inspector, watch, completeJobs, connections }: StreamServer,
): Promise<Sample> {
  const send = <Answer>(command: WatchersCommand) => {
    watchers.send(command)
    return watchers.receive<Answer>(commandTimeoutMs)
  }
  const open = (streams: number) => send<{ seconds: number }>({ command: 'open', watch: { ...watch, streams } })
  try {
    // The first streams make the process allocate memory that it needs only once.
    await open(Math.ceil(streams / 20))
    await send({ command: 'close' })
    await collectGarbage(process.pid, inspector)
    const before = memoryOf(process.pid)
    const perStream = () => (memoryOf(process.pid) - before) / streams / 1000
    const { seconds } = await open(streams)
    const resident = perStream()
    await collectGarbage(process.pid, inspector)
    const memory = perStream()
    const connectionCounts = await connections?.()
    await completeJobs()
    const { half, all } = await send<Delivery>({ command: 'await-end' })
    return { all, half, memory, resident, ...connectionCounts, opened: streams / seconds }
  } finally {
    await send({ command: 'close' })
  }
}

async function connectionsIn(url: string): Promise<Sample> {
  const [row] = await query<{ pool: string; others: string }>(
    url,
    `select count(*) filter (where application_name ~ '^accepted api [^ ]+$') as pool,
      count(*) filter (where application_name !~ '^accepted api [^ ]+$') as others
    from pg_stat_activity
    where datname = current_database() and application_name not like 'accepted worker%' and pid <> pg_backend_pid()`,
  )
  return { pool: Number(row?.pool), others: Number(row?.others) }
}
