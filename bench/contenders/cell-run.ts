import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { now } from '../core/clock.ts'
import { type JobRecord, openRecords } from '../core/job-records.ts'
import { query, type Server } from '../core/server.ts'
import { supervise } from '../core/supervisor.ts'
import type { Cell } from './cell-faults.ts'
import type { ProducerCommand, ProducerStopped } from './cell-process.ts'
import type { CellContender } from './cells.ts'

/** A server that a cell may stop and start again. */
export interface Cluster {
  server(): Server
  stop(): Promise<void>
  start(): Promise<void>
}

/** The lengths of the phases, in seconds. */
export interface Phases {
  warmUp: number
  before: number
  during: number
  after: number
  /** How long the jobs may take to end after the producer has stopped. */
  drain: number
}

/** Times are values of `now`. */
export interface CellRun {
  jobs: readonly JobRecord[]
  /** Begin and end of each phase. */
  before: readonly [number, number]
  during: readonly [number, number]
  after: readonly [number, number]
  faultEndedAt: number
  drainedAt: number
  /** At the end of the phase with the fault. */
  deadRows: number
  /** Jobs that were enqueued, were never executed, and will not be executed. */
  lost: number
  /** Jobs that have not ended when the drain has taken its time. */
  pending: number
  failed: number
  /** How often workers have ended by themselves. */
  exits: number
}

const workerCount = 2
const drainPollMs = 250

interface Processes {
  databaseUrl: string
  workers: Awaited<ReturnType<typeof supervise>>[]
  producer: Awaited<ReturnType<CellContender['startProducer']>>
  records: ReturnType<typeof openRecords>
}

/** Starts two supervised workers and a producer on a new database, and stops them after `use`. */
async function withProcesses<Result>(
  contender: CellContender,
  { cluster, directory, name }: { cluster: Cluster; directory: string; name: string },
  use: (processes: Processes) => Promise<Result>,
): Promise<Result> {
  const databaseUrl = await contender.createDatabase(cluster.server(), name)
  const files = { ENQUEUED: join(directory, `${name}.enqueued`), EXECUTIONS: join(directory, `${name}.executions`) }
  const records = openRecords(files.ENQUEUED, files.EXECUTIONS)
  const env = { DATABASE_URL: databaseUrl, ...files }
  const workers: Processes['workers'] = []
  const startWorker = () => supervise(() => contender.startWorker(directory, env))
  try {
    // The first worker of a peer creates the schema.
    workers.push(await startWorker())
    while (workers.length < workerCount) workers.push(await startWorker())
    const producer = await contender.startProducer(directory, env)
    try {
      return await use({ databaseUrl, workers, producer, records })
    } finally {
      await producer.stop()
    }
  } finally {
    await Promise.all(workers.map((worker) => worker.stop()))
    records.close()
    await cluster.server().dropDatabase(name)
  }
}

const calibrationBacklog = 1_000
const calibrationIntervalMs = 50

/** Measures how many jobs complete per second while about a thousand jobs wait. */
export const measureCapacity = (
  contender: CellContender,
  place: { cluster: Cluster; directory: string },
  { warmUp, seconds }: { warmUp: number; seconds: number },
): Promise<number> =>
  withProcesses(
    contender,
    { ...place, name: `calibration_${contender.name.replace('-', '_').toLowerCase()}` },
    async ({ producer, records }) => {
      let asked = 0
      const completed = () => {
        records.read()
        return records.executions()
      }
      const run = async (until: number) => {
        for (; now() < until; await delay(calibrationIntervalMs)) {
          const missing = calibrationBacklog - (asked - completed())
          if (missing <= 0) continue
          asked += missing
          producer.send({ enqueue: missing } satisfies ProducerCommand)
        }
      }
      await run(now() + warmUp * 1000)
      const [before, begun] = [completed(), now()]
      await run(begun + seconds * 1000)
      return (completed() - before) / ((now() - begun) / 1000)
    },
  )

/** Runs a contender at a rate, before, during and after a fault. */
export const runCell = (
  contender: CellContender,
  cell: Cell,
  {
    phases,
    perSecond,
    ...place
  }: { cluster: Cluster; directory: string; phases: Phases; perSecond: number; name: string },
): Promise<CellRun> =>
  withProcesses(contender, place, async ({ databaseUrl, workers, producer, records }) => {
    const { cluster } = place
    const setLoad = ({ factor = 1, queues = 1 }) =>
      producer.send({ perSecond: perSecond * factor, queues } satisfies ProducerCommand)
    setLoad({})
    await delay(phases.warmUp * 1000)
    const begun = now()
    await delay(phases.before * 1000)
    const faultBegun = now()
    const fault = await cell.begin({
      seconds: phases.during,
      databaseUrl,
      adminUrl: cluster.server().urlOf('postgres'),
      workers,
      hotTables: contender.hotTables,
      setLoad,
      stopServer: cluster.stop,
      startServer: cluster.start,
    })
    await delay(Math.max(0, faultBegun + phases.during * 1000 - now()))
    const deadRows = await countDeadRows(databaseUrl, contender.schemas)
    await fault.lift?.()
    const afterBegun = now()
    await delay(phases.after * 1000)
    const afterEnded = now()
    producer.send({ perSecond: 0, queues: 1 } satisfies ProducerCommand)
    await producer.receive<ProducerStopped>()
    const { unsuccessful, drainedAt } = await drain(databaseUrl, contender, phases.drain)
    records.read()
    const pending = new Set(unsuccessful.filter(({ failed }) => !failed).map(({ sequence }) => sequence))
    const lost = [...records.jobs].filter(
      ([sequence, { committed, executions }]) => committed !== undefined && executions === 0 && !pending.has(sequence),
    )
    return {
      jobs: [...records.jobs.values()],
      before: [begun, faultBegun],
      during: [faultBegun, afterBegun],
      after: [afterBegun, afterEnded],
      faultEndedAt: fault.endedAt ?? afterBegun,
      drainedAt,
      deadRows,
      lost: lost.length,
      pending: pending.size,
      failed: unsuccessful.length - pending.size,
      exits: workers.reduce((sum, worker) => sum + worker.exits(), 0),
    }
  })

/** Waits until all jobs have ended, for at most `seconds`. */
async function drain(url: string, { unsuccessful: text }: CellContender, seconds: number) {
  const until = now() + seconds * 1000
  for (;;) {
    const unsuccessful = await query<{ sequence: number; failed: boolean }>(url, text)
    if (unsuccessful.every(({ failed }) => failed) || now() > until) return { unsuccessful, drainedAt: now() }
    await delay(drainPollMs)
  }
}

/** Counts the dead rows by reading the tables. The statistics of Postgres are only an estimate. */
async function countDeadRows(url: string, schemas: readonly string[]): Promise<number> {
  await query(url, 'create extension if not exists pgstattuple')
  const [row] = await query<{ dead: number }>(
    url,
    `select sum((pgstattuple(oid)).dead_tuple_count)::float8 as dead
    from pg_class where relkind = 'r' and relnamespace::regnamespace::text = any($1)`,
    [schemas],
  )
  return row?.dead ?? 0
}
