import { setTimeout as delay } from 'node:timers/promises'
import { createNote } from '../app/operations.ts'
import { type Execution, startExplaining } from '../core/plans.ts'
import { startAccepted } from '../core/process.ts'
import type { Contender, Sample } from '../core/scenario.ts'
import { acceptOne, addExpiredDay, seedJobs, settleTables, today } from '../core/seed.ts'
import { costPer, query, startCost } from '../core/server.ts'
import { closedLoop } from '../core/wrk.ts'
import { untilNone } from './drain-process.ts'

/** Requests are accepted so long while nobody works, and then so many jobs are drained. */
export interface BacklogLoad {
  connections: number
  seconds: number
  /** Jobs that are drained, the first of which belong to the compiler. */
  jobs: number
  toWarm: number
}

/** Everything is asked for once, and the server tells how it has executed what it was sent. */
export interface BacklogLook {
  /** So long the worker drains meanwhile. */
  workSeconds: number
  onExecutions(executions: readonly Execution[], url: string): Promise<void>
}

/** An API before a queue of so many jobs, and a worker behind it. */
export const backlog = (size: number): Contender<BacklogLoad | BacklogLook> => ({
  name: `${size.toLocaleString('en-US')} jobs wait`,
  async open({ server, directory, quick, say }) {
    const database = `backlog_${size}`
    const databaseUrl = await server.createOurs(database)
    const env = { DATABASE_URL: databaseUrl }
    let api = await startAccepted('api', directory, env)
    // The first seconds belong to the compiler; a quick run, which tells nothing of speed, does without.
    if (!quick) await closedLoop(`${api.url}/notes`, 64, 3)

    /** Answers the job that was accepted last. */
    const fill = async () => {
      await query(
        databaseUrl,
        'truncate note, accepted.job, accepted.idempotency_key, accepted.processed_key, pgboss.job',
      )
      const last = await acceptOne(api.url)
      await seedJobs(databaseUrl, { template: last, count: size - 1, ...today() })
      await settleTables(databaseUrl)
      return last
    }

    const measure = async ({ connections, seconds, jobs, toWarm }: BacklogLoad): Promise<Sample> => {
      const last = await fill()
      const end = await startCost(server, database, [])
      const { perSecond: accepts, p99 } = await closedLoop(`${api.url}/notes`, connections, seconds)
      const { postgresCpu: acceptCpu, walBytes: acceptWal } = costPer(await end(), accepts * seconds)
      await forgetAfter(databaseUrl, last)
      const worker = await startAccepted('worker', directory, env)
      // Looking is to cost nothing: only what has been processed has a row there.
      await untilNone(
        databaseUrl,
        `select from (select count(*) from accepted.processed_key) n where count < ${jobs}`,
        120,
      )
      await worker.stop()
      return { accepts, p99, acceptCpu, acceptWal, drains: await rateOf(databaseUrl, toWarm, jobs) }
    }

    const look = async ({ workSeconds, onExecutions }: BacklogLook): Promise<Sample> => {
      await api.stop()
      say('how statements are executed')
      await addExpiredDay(databaseUrl, { template: await newestJob(databaseUrl), count: Math.ceil(size / 100) })
      const executions = await startExplaining(server, database)
      api = await startAccepted('api', directory, env)
      const times = quick ? 1 : often
      // Before there is a worker: what it has ended cannot be canceled.
      await askForEverything(api.url, times)
      const worker = await startAccepted('worker', directory, env)
      await Promise.all([delay(workSeconds * 1000), readEvents(api.url, times)])
      await fetch(`${worker.url}/metrics`)
      await Promise.all([api.stop(), worker.stop()])
      await onExecutions(await executions(), databaseUrl)
      return {}
    }

    return {
      measure: (load) => ('jobs' in load ? measure(load) : look(load)),
      async close() {
        await api.stop()
        await server.dropDatabase(database)
      },
    }
  },
})

/** Takes away what was accepted after a job, and was not worked on. */
async function forgetAfter(url: string, last: string): Promise<void> {
  await query(url, 'delete from pgboss.job where name = $1 and id > $2', [createNote.name, last])
  for (const [table, key] of [
    ['note', 'id'],
    ['accepted.idempotency_key', 'job_id'],
    ['accepted.job', 'id'],
  ])
    await query(url, `delete from ${table} where ${key} > $1`, [last])
  await settleTables(url)
}

async function newestJob(url: string): Promise<string> {
  const [row] = await query<{ id: string }>(url, 'select id from accepted.job order by id desc limit 1')
  return row?.id as string
}

/** How fast the jobs after the first ones ended, as their rows say. */
async function rateOf(url: string, from: number, to: number): Promise<number> {
  const [row] = await query<{ ended: number; seconds: number }>(
    url,
    `select count(*)::float8 - 1 as ended, extract(epoch from max(ended_at) - min(ended_at))::float8 as seconds
    from (
      select ended_at from accepted.job where state = 'succeeded' order by ended_at offset $1 limit $2
    ) as ends`,
    [from, to - from],
  )
  if (!row?.seconds) throw new Error(`Not even ${from} jobs ended`)
  return row.ended / row.seconds
}

/** A statement is planned for any values only once it has been planned for those of five. */
const often = 7

/** Sends each kind of request about jobs there is, so many times. */
async function askForEverything(origin: string, times: number): Promise<void> {
  await closedLoop(`${origin}/notes`, 64, 1)
  for (let time = 0; time < times; time++) {
    const id = await acceptOne(origin)
    const under = { 'content-type': 'application/json', 'idempotency-key': `"again ${id}"` }
    const body = '{"text":"Buy milk"}'
    for (const _ of ['first', 'replayed']) await ask(`${origin}/notes`, { method: 'POST', headers: under, body })
    await ask(`${origin}/jobs/${id}`)
    await ask(`${origin}/jobs?limit=100`)
    await ask(`${origin}/jobs?status=failed`)
    await ask(`${origin}/jobs?operation=${createNote.name}`)
    await ask(`${origin}/jobs/${id}/cancel`, { method: 'POST' })
    await ask(`${origin}/jobs/${id}/retry`, { method: 'POST' })
  }
}

/** Reads an event, and then, as a client does that was cut off, what it has missed, so many times. */
async function readEvents(origin: string, times: number): Promise<void> {
  const last = await readEvent(origin)
  for (let time = 0; time < times; time++) await readEvent(origin, last)
}

/** The id of the first event on the stream of all jobs. */
async function readEvent(origin: string, last?: string): Promise<string> {
  const signal = AbortSignal.timeout(30_000)
  const stream = await fetch(`${origin}/events`, { signal, headers: { ...(last && { 'last-event-id': last }) } })
  let text = ''
  // Who leaves the loop ends the stream.
  for await (const part of stream.body ?? []) {
    text += Buffer.from(part).toString()
    const [, id] = text.match(/^id: ?(.+)$/m) ?? []
    if (id) return id
  }
  throw new Error('The stream of events ended without one')
}

async function ask(url: string, init?: RequestInit): Promise<void> {
  const response = await fetch(url, init)
  const text = await response.text()
  if (!response.ok) throw new Error(`${url} answered ${response.status}: ${text}`)
}
