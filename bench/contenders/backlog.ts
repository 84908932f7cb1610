import { setTimeout as delay } from 'node:timers/promises'
import { createNote } from '../app/operations.ts'
import { costPer, startCost } from '../core/cost.ts'
import { type Execution, startExplaining } from '../core/plans.ts'
import { startAccepted } from '../core/process.ts'
import type { Contender } from '../core/scenario.ts'
import { acceptOne, addExpiredDay, recently, seedJobs, vacuumAndCheckpoint } from '../core/seed.ts'
import type { Sample } from '../core/series.ts'
import { query } from '../core/server.ts'
import { closedLoop } from '../core/wrk.ts'
import { waitUntilEmpty } from './drain-process.ts'

/** First the API accepts requests without a worker. Then a worker drains jobs. */
export interface BacklogLoad {
  connections: number
  seconds: number
  /** Jobs to drain, including `warmUpJobs`. */
  jobs: number
  /** The first jobs of the drain are not counted, because V8 is still compiling code. */
  warmUpJobs: number
}

/** The bench sends every kind of request and records the plans of all statements. */
export interface BacklogInspection {
  /** How long the worker drains jobs while plans are recorded. */
  workSeconds: number
  onExecutions(executions: readonly Execution[], url: string): Promise<void>
}

const warmUpConnections = 64
const warmUpSeconds = 3
const drainTimeoutSeconds = 120

/** An API and a worker on a database with `size` queued jobs. */
export const backlog = (size: number): Contender<BacklogLoad | BacklogInspection> => ({
  name: `${size.toLocaleString('en-US')} queued jobs`,
  async open({ server, directory, quick, log }) {
    const database = `backlog_${size}`
    const databaseUrl = await server.createOurs(database)
    const env = { DATABASE_URL: databaseUrl }
    let api = await startAccepted('api', directory, env)
    // In the first seconds V8 compiles code. A quick run skips the warm-up, because its figures mean nothing.
    if (!quick) await closedLoop(`${api.url}/notes`, warmUpConnections, warmUpSeconds)

    /** Deletes all jobs, submits one over HTTP, and fills the queue up to `size` jobs. Returns that job's id. */
    const fill = async () => {
      await query(
        databaseUrl,
        'truncate note, accepted.job, accepted.idempotency_key, accepted.processed_key, accepted_queue.job',
      )
      const last = await acceptOne(api.url)
      await seedJobs(databaseUrl, { template: last, count: size - 1, ...recently() })
      await vacuumAndCheckpoint(databaseUrl)
      return last
    }

    const measure = async ({ connections, seconds, jobs, warmUpJobs }: BacklogLoad): Promise<Sample> => {
      const last = await fill()
      const stopCost = await startCost(server, database, [])
      const { perSecond: accepts, p99 } = await closedLoop(`${api.url}/notes`, connections, seconds)
      const { postgresCpu: acceptCpu, walBytes: acceptWal } = costPer(await stopCost(), accepts * seconds)
      await deleteJobsAfter(databaseUrl, last)
      const worker = await startAccepted('worker', directory, env)
      // This poll is cheap, because only completed jobs have a row in processed_key.
      await waitUntilEmpty(
        databaseUrl,
        `select from (select count(*) from accepted.processed_key) n where count < ${jobs}`,
        drainTimeoutSeconds,
      )
      await worker.stop()
      return { accepts, p99, acceptCpu, acceptWal, drains: await rateOf(databaseUrl, warmUpJobs, jobs) }
    }

    const inspect = async ({ workSeconds, onExecutions }: BacklogInspection): Promise<Sample> => {
      await api.stop()
      log('recording the plans of all statements')
      await addExpiredDay(databaseUrl, { template: await newestJob(databaseUrl), count: Math.ceil(size / 100) })
      const executions = await startExplaining(server, database)
      api = await startAccepted('api', directory, env)
      const times = quick ? 1 : requestsPerKind
      // The requests come before the worker starts, because a completed job cannot be canceled.
      await sendEveryRequest(api.url, times)
      const worker = await startAccepted('worker', directory, env)
      await Promise.all([delay(workSeconds * 1000), readEvents(api.url, times)])
      await fetch(`${worker.url}/metrics`)
      await Promise.all([api.stop(), worker.stop()])
      await onExecutions(await executions(), databaseUrl)
      return {}
    }

    return {
      measure: (load) => ('jobs' in load ? measure(load) : inspect(load)),
      async close() {
        await api.stop()
        await server.dropDatabase(database)
      },
    }
  },
})

/** Deletes the jobs that were accepted after the job `last`. No worker has claimed these jobs. */
async function deleteJobsAfter(url: string, last: string): Promise<void> {
  // Without triggers, because one refuses to delete pending jobs.
  const withoutTriggers = new URL(url)
  withoutTriggers.searchParams.set('options', '-c session_replication_role=replica')
  await query(url, 'delete from accepted_queue.job where name = $1 and id > $2', [createNote.name, last])
  for (const [table, key] of [
    ['note', 'id'],
    ['accepted.idempotency_key', 'job_id'],
    ['accepted.job', 'id'],
  ])
    await query(withoutTriggers.href, `delete from ${table} where ${key} > $1`, [last])
  await vacuumAndCheckpoint(url)
}

async function newestJob(url: string): Promise<string> {
  const [row] = await query<{ id: string }>(url, 'select id from accepted.job order by id desc limit 1')
  return row?.id as string
}

/** Returns the completed jobs per second, without the first `skipped` jobs. Uses the times in the jobs' rows. */
async function rateOf(url: string, skipped: number, jobs: number): Promise<number> {
  const [row] = await query<{ completed: number; seconds: number }>(
    url,
    `select count(*)::float8 - 1 as completed, extract(epoch from max(ended_at) - min(ended_at))::float8 as seconds
    from (
      select ended_at from accepted.job where status = 'succeeded' order by ended_at offset $1 limit $2
    ) as completions`,
    [skipped, jobs - skipped],
  )
  if (!row?.seconds) throw new Error(`At most ${skipped + 1} jobs completed: there is no rate to compute`)
  return row.completed / row.seconds
}

/** After five executions of a prepared statement, Postgres may switch to a generic plan. */
const requestsPerKind = 7

/** Sends each kind of request about jobs. */
async function sendEveryRequest(origin: string, times: number): Promise<void> {
  await closedLoop(`${origin}/notes`, 64, 1)
  for (let time = 0; time < times; time++) {
    const id = await acceptOne(origin)
    const headers = { 'content-type': 'application/json', 'idempotency-key': `"again ${id}"` }
    const body = '{"text":"Buy milk"}'
    for (const _ of ['first', 'replayed']) await send(`${origin}/notes`, { method: 'POST', headers, body })
    await send(`${origin}/jobs/${id}`)
    await send(`${origin}/jobs?limit=100`)
    await send(`${origin}/jobs?status=failed`)
    await send(`${origin}/jobs?operation=${createNote.name}`)
    await send(`${origin}/jobs/${id}/cancel`, { method: 'POST' })
    await send(`${origin}/jobs/${id}/retry`, { method: 'POST' })
  }
}

/** Reads one event. Then reconnects several times with the id of that event, and reads the next event each time. */
async function readEvents(origin: string, times: number): Promise<void> {
  const last = await readEvent(origin)
  for (let time = 0; time < times; time++) await readEvent(origin, last)
}

/** Returns the id of the first event on the stream of all jobs. */
async function readEvent(origin: string, last?: string): Promise<string> {
  const signal = AbortSignal.timeout(30_000)
  const stream = await fetch(`${origin}/events`, { signal, headers: { ...(last && { 'last-event-id': last }) } })
  let text = ''
  // A return from the loop closes the stream.
  for await (const part of stream.body ?? []) {
    text += Buffer.from(part).toString()
    const [, id] = text.match(/^id: ?(.+)$/m) ?? []
    if (id) return id
  }
  throw new Error('The event stream ended without an event')
}

async function send(url: string, init?: RequestInit): Promise<void> {
  const response = await fetch(url, init)
  const text = await response.text()
  if (!response.ok) throw new Error(`${init?.method ?? 'GET'} ${url} returned ${response.status}: ${text}`)
}
