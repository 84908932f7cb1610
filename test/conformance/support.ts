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

export const config = join(import.meta.dirname, 'app/accepted.config.ts')

/** The names of the states in which a job has ended. */
export const finalStates = ['succeeded', 'failed', 'canceled'] as const

/** An answer as it came over the wire. */
export interface Answer {
  status: number
  headers: IncomingHttpHeaders
  /** Names and values in turn, as they were sent. */
  rawHeaders: string[]
  text: string
  /** The text parsed, when the media type says that it is JSON. */
  // biome-ignore lint/suspicious/noExplicitAny: the body is what the test is about
  body: any
}

export interface RequestOptions {
  method?: string
  /** A list sends a header as that many lines. */
  headers?: OutgoingHttpHeaders
  /** Sent as it is; anything but a string or bytes as JSON. */
  body?: unknown
}

/** Sends one request on a connection of its own, and follows nothing. */
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

/** Something that will be answered, and whether it has been already. */
export interface Pending<Result> {
  isSettled(): boolean
  /** Waits for it, but not for ever. */
  result(): Promise<Result>
}

/** Lets a test look whether something has been answered. */
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

/** Somebody who calls the API. */
export interface Client {
  name: string
  request(path: string, options?: RequestOptions): Promise<Answer>
  get(path: string, headers?: OutgoingHttpHeaders): Promise<Answer>
  post(path: string, body: unknown, headers?: OutgoingHttpHeaders): Promise<Answer>
  /** Posts to an operation's route and answers the monitor in the 202. */
  // biome-ignore lint/suspicious/noExplicitAny: the body is what the test is about
  submit(path: string, body: unknown, headers?: OutgoingHttpHeaders): Promise<any>
  /** The monitor of a job. */
  // biome-ignore lint/suspicious/noExplicitAny: the body is what the test is about
  monitor(id: string): Promise<any>
  /** Waits until the monitor of a job is as described, and answers it. */
  // biome-ignore lint/suspicious/noExplicitAny: the body is what the test is about
  untilJob(id: string, holds: (monitor: any) => unknown): Promise<any>
  /** Waits for the end of a job and answers its monitor. */
  // biome-ignore lint/suspicious/noExplicitAny: the body is what the test is about
  ended(id: string): Promise<any>
  /** Submits a job that the test steers, and waits until it runs. */
  running(body?: { label?: string; stubborn?: boolean }, headers?: OutgoingHttpHeaders): Promise<string>
  /** Makes a job that has ended so, and answers its id. */
  endedAs(state: (typeof finalStates)[number]): Promise<string>
}

/** A service with its API and worker processes. */
export interface Service {
  api: Program
  /** All API processes, of which `api` is the first. */
  apis: Program[]
  databaseUrl: string
  pool: pg.Pool
  /** A client of an API process, the first unless it is said which. */
  as(user: string, api?: Program): Client
  /** Tells a steered job what to do next. */
  steer(id: string, ...actions: Action[]): Promise<void>
  /** What was seen of a job in its handler. */
  sightings(id: string): Promise<string[]>
  /** How often the settle of a job took effect. */
  effects(id: string): Promise<number>
  /** Lets the record of a job that has ended expire. */
  expire(id: string): Promise<void>
  /** How many rows there are that a request of a principal would leave. */
  storedBy(principal: string): Promise<typeof nothing>
}

export interface ServiceOptions {
  apis?: number
  worker?: boolean
  env?: NodeJS.ProcessEnv
  /** SQL to run before anything starts. */
  prepare?: string
}

/** Nothing of a request was kept. */
export const nothing = { jobs: 0, keys: 0, notes: 0 }

/** Starts API and worker processes on a database of their own. */
export async function serve(t: Test, options: ServiceOptions = {}): Promise<Service> {
  const databaseUrl = await createDatabase(t)
  const database = openDatabase({ url: databaseUrl })
  t.teardown(() => database.close())
  const { pool } = database
  await pool.query(schema + (options.prepare ?? ''))
  const env = options.env ?? {}
  const apis = await Promise.all(
    Array.from({ length: options.apis ?? 1 }, () => start(t, 'api', { config, databaseUrl, env })),
  )
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
    as: (user, by = api) => createClient(by.url, user, steer),
    sightings: async (id) => (await rows('select word from sighting where job_id = $1', id)).map(({ word }) => word),
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

/** Starts a worker that claims some operations. */
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
    untilJob: (id, holds) =>
      until(async () => {
        const monitor = await client.monitor(id)
        return holds(monitor) && monitor
      }),
    ended: (id) => client.untilJob(id, ({ endedAt }) => endedAt),
    async running(body = {}, headers = {}) {
      const { id } = await client.submit('/steered', body, headers)
      await client.untilJob(id, ({ status }) => status === 'running')
      return id
    },
    async endedAs(state) {
      if (state === 'canceled') {
        const { id } = await client.submit('/idle', { text: 'to be canceled' })
        await client.post(`/jobs/${id}/cancel`, undefined)
        await client.ended(id)
        return id
      }
      const { id } = await client.submit('/steered', {})
      await steer(id, state === 'succeeded' ? { do: 'succeed' } : { do: 'fail', code: 'no-luck', message: 'No luck' })
      await client.ended(id)
      return id
    },
  }
  return client
}

/** The id of a job that never was, made at a time. */
export function idAt(time: number): string {
  const hex = time.toString(16).padStart(12, '0')
  const random = Math.floor(Math.random() * 2 ** 48).toString(16)
  return `${hex.slice(0, 8)}-${hex.slice(8)}-7000-8000-${random.padStart(12, '0')}`
}

/** All values of the members of that name, however deep. */
export function membersNamed(name: string, value: unknown): unknown[] {
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([key, member]) => [
    ...(key === name ? [member] : []),
    ...membersNamed(name, member),
  ])
}

/** The preferences in Preference-Applied. */
export const preferencesApplied = ({ headers }: Answer): string[] =>
  [headers['preference-applied'] ?? []]
    .flat()
    .join(',')
    .split(',')
    .map((preference) => preference.trim())
    .filter(Boolean)
