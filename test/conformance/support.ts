import { once } from 'node:events'
import { type IncomingHttpHeaders, type OutgoingHttpHeaders, request } from 'node:http'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import type pg from 'pg'
import type { Test } from 'tap'
import { openDatabase } from '../../src/db/database.ts'
import { createDatabase } from '../support/database.ts'
import { type Program, start } from '../support/program.ts'
import { until } from '../support/until.ts'
import { type Action, claimed, schema } from './app/operations.ts'
import type { Framework } from './framework.ts'

export const config = join(import.meta.dirname, 'app/accepted.config.ts')

/** The statuses of jobs that have ended. */
export const finalStatuses = ['succeeded', 'failed', 'canceled'] as const

/** A received HTTP response. */
export interface Answer {
  status: number
  headers: IncomingHttpHeaders
  /** The header names and values in turn, exactly as the server sent them. */
  rawHeaders: string[]
  text: string
  /** The text parsed as JSON, if the media type is JSON. */
  // biome-ignore lint/suspicious/noExplicitAny: the test checks the body
  body: any
}

export interface RequestOptions {
  method?: string
  /** Each element of an array is sent as a separate header line. */
  headers?: OutgoingHttpHeaders
  /** Strings and buffers are sent unchanged. Other values are sent as JSON. */
  body?: unknown
}

/** Sends one request on a new connection, without following redirects. */
export async function send(url: string, { method = 'GET', headers = {}, body }: RequestOptions = {}): Promise<Answer> {
  const isRaw = body === undefined || typeof body === 'string' || Buffer.isBuffer(body)
  const bytes = isRaw ? (body ?? '') : JSON.stringify(body)
  const outgoing = request(url, {
    method,
    agent: false,
    headers: {
      ...(body !== undefined && { 'content-length': Buffer.byteLength(bytes) }),
      ...(!isRaw && { 'content-type': 'application/json' }),
      ...headers,
    },
  })
  outgoing.end(bytes)
  const [incoming] = await once(outgoing, 'response')
  const received = await text(incoming)
  const isJson = /[/+]json\b/.test(incoming.headers['content-type'] ?? '')
  return {
    status: incoming.statusCode,
    headers: incoming.headers,
    rawHeaders: incoming.rawHeaders,
    text: received,
    body: received && isJson ? JSON.parse(received) : undefined,
  }
}

/** A promise, with a function that returns whether it has settled. */
export interface Pending<Result> {
  isSettled(): boolean
  /** Waits for the result. Fails after the timeout of {@link until}. */
  result(): Promise<Result>
}

/** Wraps a promise so that a test can check whether the promise has settled. */
export function pending<Result>(promise: Promise<Result>): Pending<Result> {
  let isSettled = false
  const settle = () => {
    isSettled = true
  }
  promise.then(settle, settle)
  return {
    isSettled: () => isSettled,
    result: () => until(() => isSettled).then(() => promise),
  }
}

/** An API client that sends all its requests as one principal. */
export interface Client {
  name: string
  request(path: string, options?: RequestOptions): Promise<Answer>
  get(path: string, headers?: OutgoingHttpHeaders): Promise<Answer>
  post(path: string, body: unknown, headers?: OutgoingHttpHeaders): Promise<Answer>
  /** Posts to the route of an operation, and returns the monitor from the body of the 202. */
  // biome-ignore lint/suspicious/noExplicitAny: the test checks the body
  submit(path: string, body: unknown, headers?: OutgoingHttpHeaders): Promise<any>
  /** Reads the monitor of a job. */
  // biome-ignore lint/suspicious/noExplicitAny: the test checks the body
  monitor(id: string): Promise<any>
  /** Reads the monitor of a job until the monitor matches, and returns that monitor. */
  // biome-ignore lint/suspicious/noExplicitAny: the test checks the body
  untilJob(id: string, matches: (monitor: any) => unknown): Promise<any>
  /** Waits until a job has ended, and returns its monitor. */
  // biome-ignore lint/suspicious/noExplicitAny: the test checks the body
  ended(id: string): Promise<any>
  /** Submits a job of the operation `steered`, waits until the job is running, and returns its id. */
  running(body?: { label?: string; stubborn?: boolean }, headers?: OutgoingHttpHeaders): Promise<string>
  /** Creates a job, waits until it has ended with the given status, and returns its id. */
  endedAs(jobStatus: (typeof finalStatuses)[number]): Promise<string>
}

/** API processes and a worker process that share a database. */
export interface Service {
  api: Program
  /** All API processes, `api` included. */
  apis: Program[]
  databaseUrl: string
  pool: pg.Pool
  /** Returns a client of an API process. The default is the first process. */
  as(user: string, api?: Program): Client
  /** Adds actions to a job of the operation `steered`. Its handler performs the actions in order. */
  steer(id: string, ...actions: Action[]): Promise<void>
  /** Reads the events that the handler of a job has recorded. */
  observations(id: string): Promise<string[]>
  /** Counts how many times the settle of a job has committed. */
  effects(id: string): Promise<number>
  /** Makes the record of a job expire. */
  expire(id: string): Promise<void>
  /** Counts the rows that requests of a principal have stored. */
  storedBy(principal: string): Promise<typeof nothing>
}

export interface ServiceOptions {
  apis?: number
  worker?: boolean
  env?: NodeJS.ProcessEnv
  /** SQL to run before the processes start. */
  prepare?: string
}

/** What {@link Service.storedBy} returns for a principal without any rows. */
export const nothing = { jobs: 0, keys: 0, notes: 0 }

/** Starts API and worker processes with a new database. */
export async function serve(t: Test, options: ServiceOptions = {}): Promise<Service> {
  const databaseUrl = await createDatabase(t)
  const database = openDatabase({ url: databaseUrl })
  t.teardown(() => database.close())
  const { pool } = database
  await pool.query(schema + (options.prepare ?? ''))
  const env = options.env ?? {}
  const apis = await Promise.all(Array.from({ length: options.apis ?? 1 }, () => startApi(t, databaseUrl, env)))
  if (options.worker ?? true) await startWorker(t, databaseUrl, claimed)
  const [api] = apis as [Program]

  const steer: Service['steer'] = async (id, ...actions) => {
    for (const action of actions) {
      await pool.query('insert into step (job_id, action) values ($1, $2)', [id, JSON.stringify(action)])
    }
  }
  const rows = async (query: string, ...values: unknown[]) => (await pool.query(query, values)).rows
  return {
    ...{ api, apis, databaseUrl, pool, steer },
    as: (user, target = api) => createClient(target.url, user, steer),
    observations: async (id) =>
      (await rows('select event from observation where job_id = $1', id)).map(({ event }) => event),
    effects: async (id) => (await rows('select from effect where job_id = $1', id)).length,
    expire: async (id) => {
      await rows("update accepted.job set expires_at = now() - interval '1 s' where id = $1", id)
    },
    storedBy: async (principal) => {
      const [counts] = await rows(
        `select (select count(*)::int from accepted.job where principal = $1) as jobs,
          (select count(*)::int from accepted.idempotency_key where principal = $1) as keys,
          (select count(*)::int from note where principal = $1) as notes`,
        principal,
      )
      return counts
    },
  }
}

/** Starts `accepted api`, or the handler of `accepted/http` in the framework that frameworks.long.ts sets. */
async function startApi(t: Test, databaseUrl: string, env: NodeJS.ProcessEnv): Promise<Program> {
  const framework = process.env.ACCEPTED_TEST_FRAMEWORK as Framework | undefined
  if (!framework) return start(t, 'api', { config, databaseUrl, env })
  return (await import('./framework.ts')).startFramework(t, framework, databaseUrl)
}

/**
 * Starts a worker.
 *
 * @param operations the operations whose jobs the worker claims, separated by commas
 */
export const startWorker = (
  t: Test,
  databaseUrl: string,
  operations: string,
  env: NodeJS.ProcessEnv = {},
): Promise<Program> => start(t, 'worker', { config, databaseUrl, env, args: ['--operations', operations] })

function createClient(origin: string, name: string, steer: Service['steer']): Client {
  const client: Client = {
    name,
    request: (path, { headers, ...options } = {}) =>
      send(new URL(path, origin).href, { ...options, headers: { 'x-user': name, ...headers } }),
    get: (path, headers = {}) => client.request(path, { headers }),
    post: (path, body, headers = {}) => client.request(path, { method: 'POST', body, headers }),
    async submit(path, body, headers) {
      const { status, body: monitor, text: received } = await client.post(path, body, headers)
      if (status !== 202) throw new Error(`${path} answered ${status}: ${received}`)
      return monitor
    },
    monitor: async (id) => (await client.get(`/jobs/${id}`)).body,
    untilJob: (id, matches) =>
      until(async () => {
        const monitor = await client.monitor(id)
        return matches(monitor) && monitor
      }),
    ended: (id) => client.untilJob(id, ({ endedAt }) => endedAt),
    async running(body = {}, headers = {}) {
      const { id } = await client.submit('/steered', body, headers)
      await client.untilJob(id, ({ status }) => status === 'running')
      return id
    },
    async endedAs(jobStatus) {
      if (jobStatus === 'canceled') {
        const { id } = await client.submit('/idle', { text: 'to be canceled' })
        await client.post(`/jobs/${id}/cancel`, undefined)
        await client.ended(id)
        return id
      }
      const { id } = await client.submit('/steered', {})
      await steer(
        id,
        jobStatus === 'succeeded' ? { do: 'succeed' } : { do: 'fail', code: 'no-luck', message: 'No luck' },
      )
      await client.ended(id)
      return id
    },
  }
  return client
}

/**
 * Makes an id that does not belong to any job.
 *
 * @param time the creation time in the id, in milliseconds since 1970
 */
export function idAt(time: number): string {
  const hex = time.toString(16).padStart(12, '0')
  const random = Math.floor(Math.random() * 2 ** 48).toString(16)
  return `${hex.slice(0, 8)}-${hex.slice(8)}-7000-8000-${random.padStart(12, '0')}`
}

/** Returns the values of all members with the given name, at any depth. */
export function membersNamed(name: string, value: unknown): unknown[] {
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([key, member]) => [
    ...(key === name ? [member] : []),
    ...membersNamed(name, member),
  ])
}

/** Returns the preferences in the header Preference-Applied. */
export const preferencesApplied = ({ headers }: Answer): string[] =>
  [headers['preference-applied'] ?? []]
    .flat()
    .join(',')
    .split(',')
    .map((preference) => preference.trim())
    .filter(Boolean)
