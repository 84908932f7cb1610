import { defineOperation } from 'accepted'
import { createWorker, defineHandlers, JobFailed } from 'accepted/worker'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Transaction } from 'kysely'
import pg from 'pg'
import { pino } from 'pino'
import type { Test } from 'tap'
import Type from 'typebox'
import type { DatabaseOptions } from '../../src/db/database.ts'
import { accepted } from '../../src/http/accepted.ts'
import { maxRegistrationMs } from '../support/api.ts'
import { ended, get, post } from '../support/client.ts'
import { asRole, queryOnce } from '../support/database.ts'
// Loaded before it registers, because Fastify limits the time in which a plugin registers.
import '../../src/http/plugin.ts'

const Word = Type.Object({ word: Type.String() })

/** A job that is settled without `perform`. Its `accept` and its `settle` write to the app's table. */
export const write = defineOperation({
  name: 'word.write',
  route: { method: 'POST', url: '/words' },
  input: Word,
  accept: async (trx: Transaction<Tables>, entries) => {
    await trx
      .insertInto('public.said')
      .values(entries.map(({ id, input }) => ({ id, word: input.word })))
      .execute()
    return entries.map(({ input }) => ({ payload: input }))
  },
})
const perform = defineOperation({
  name: 'word.perform',
  route: { method: 'POST', url: '/performed' },
  input: Word,
  result: Type.Object({ word: Type.String(), at: Type.String() }),
})
const fail = defineOperation({ name: 'word.fail', route: { method: 'POST', url: '/failing' }, input: Word })
/** No worker runs it, so its jobs stay queued. */
export const wait = defineOperation({ name: 'word.wait', route: { method: 'POST', url: '/waiting' }, input: Word })

const operations = { write, perform, fail, wait }

interface Tables {
  'public.said': { id: string; word: string }
  'public.effect': { id: string; word: string }
}

const handlers = defineHandlers(operations, {
  'word.write': {
    settle: async (trx: Transaction<Tables>, jobs) => {
      await trx
        .insertInto('public.effect')
        .values(jobs.map(({ id, payload }) => ({ id, word: payload.word })))
        .execute()
    },
  },
  'word.perform': { perform: async ({ payload }) => ({ word: payload.word, at: new Date().toISOString() }) },
  'word.fail': {
    perform: async () => {
      throw new JobFailed('unsayable', 'The word cannot be said')
    },
  },
  'word.wait': { perform: async () => {} },
})

/** Characters that quoting, escaping or an encoding could change. */
const difficultWord = `NULL, {é} "\\" '\\x41' — 日本 İı ß 😀`

const silent = pino({ level: 'silent' })

export interface Api {
  app: FastifyInstance
  url: string
}

/** Starts the API in this process. */
export async function startApi(t: Test, database: string | DatabaseOptions): Promise<Api> {
  const app = Fastify({ pluginTimeout: maxRegistrationMs })
  t.teardown(() => app.close())
  await app.register(accepted, { operations, database: asRole(database, 'api'), routes: { health: '/health' } })
  return { app, url: await app.listen({ host: '127.0.0.1', port: 0 }) }
}

/** Starts the worker in this process. It runs every operation but `word.wait`. */
export async function startWorker(t: Test, database: string | DatabaseOptions) {
  const names = ['word.write', 'word.perform', 'word.fail']
  const worker = await createWorker({
    handlers,
    database: asRole(database, 'worker'),
    log: silent,
    operations: names,
    graceSeconds: 1,
  })
  t.teardown(() => worker.stop())
  return worker
}

/** The tables have their schema in their name, because the `search_path` may lead anywhere. */
export const createTables = `
  create table public.said (id uuid primary key, word text not null);
  create table public.effect (id uuid primary key, word text not null)`

/** Whether a time that Postgres has chosen arrived unchanged. */
const isRecent = (time: string) => Math.abs(Date.now() - new Date(time).getTime()) < 60_000

/**
 * Submits, performs, settles, cancels, retries, lists and watches jobs, and checks every answer.
 *
 * @param adminUrl the URL of the database, without odd settings
 */
export async function checkMainFlow(t: Test, url: string, adminUrl?: string): Promise<void> {
  const written = await checkWrites(t, url)
  if (adminUrl) await checkTables(t, adminUrl, written)
  await checkPerform(t, url)
  await checkRetry(t, url)
  await checkCancel(t, url)
  await checkList(t, url)
  await checkEvents(t, url)
}

/** The effects were written once, without a change of the text. */
async function checkTables(t: Test, adminUrl: string, id: string): Promise<void> {
  for (const table of ['said', 'effect']) {
    t.same(await queryOnce(adminUrl, `select id, word from public.${table}`), [{ id, word: difficultWord }])
  }
}

/** @returns the id of the only job that has written */
async function checkWrites(t: Test, url: string): Promise<string> {
  const headers = { 'idempotency-key': 'once' }
  const first = await post(`${url}/words`, { word: difficultWord }, headers)
  t.equal(first.status, 202, JSON.stringify(first.body))
  t.match(first.body, { operation: 'word.write', status: 'queued', attempt: 0, sequence: 1, cancelRequested: false })
  t.ok(isRecent(first.body.createdAt), first.body.createdAt)
  t.ok(new Date(first.body.expiresAt) > new Date(), first.body.expiresAt)
  const replayed = await post(`${url}/words`, { word: difficultWord }, headers)
  t.match(replayed, { status: 202, body: { id: first.body.id } })
  t.equal(replayed.headers.get('idempotent-replayed'), 'true')
  t.equal((await post(`${url}/words`, { word: 'other' }, headers)).status, 422)
  const done = await ended(first.body.links.self)
  t.equal(done.status, 'succeeded')
  t.ok(isRecent(done.endedAt), done.endedAt)
  t.ok(isRecent(done.startedAt), done.startedAt)
  return first.body.id
}

async function checkPerform(t: Test, url: string): Promise<void> {
  // Without keys: neither job is a duplicate of the other.
  for (const word of [difficultWord, 'second']) {
    const { body } = await post(`${url}/performed`, { word })
    const done = await ended(body.links.self)
    t.match(done, { status: 'succeeded', attempt: 1, result: { word } })
    t.ok(isRecent(done.result.at), done.result.at)
    t.notOk('resourceLocation' in done || 'error' in done, JSON.stringify(done))
    const result = await get(body.links.result)
    t.match(result, { status: 200, body: { word } })
  }
}

async function checkRetry(t: Test, url: string): Promise<void> {
  const { body } = await post(`${url}/failing`, { word: 'x' })
  t.match(await ended(body.links.self), { status: 'failed', error: { code: 'unsayable' } })
  t.equal((await get(body.links.result)).status, 424)
  const again = await post(body.links.retry, {})
  t.match(again, { status: 202, body: { retryOf: body.id, status: 'queued' } })
  t.ok(isRecent(again.body.createdAt))
  t.match(await ended(again.body.links.self), { status: 'failed' })
}

async function checkCancel(t: Test, url: string): Promise<void> {
  const { body } = await post(`${url}/waiting`, { word: difficultWord })
  const canceled = await post(body.links.cancel, {})
  t.match(canceled, { status: 200, body: { id: body.id, status: 'canceled' } })
  t.ok(isRecent(canceled.body.endedAt), canceled.body.endedAt)
  const again = await post(body.links.retry, {})
  t.match(again, { status: 202, body: { retryOf: body.id } })
}

async function checkList(t: Test, url: string): Promise<void> {
  const { body } = await get(`${url}/jobs?limit=100`)
  const ids = body.value.map(({ id }: { id: string }) => id)
  t.same(ids, [...ids].sort().reverse(), 'the newest job comes first')
  t.ok(body.value.every((job: { createdAt: string }) => isRecent(job.createdAt)))
  const pages = []
  for (let next = `${url}/jobs?limit=3`; next; ) {
    const page = await get(next)
    pages.push(...page.body.value)
    next = page.body.nextLink
  }
  t.same(
    pages.map(({ id }) => id),
    ids,
    'pages have the same jobs in the same order',
  )
}

async function checkEvents(t: Test, url: string): Promise<void> {
  const succeeded = await get(`${url}/jobs?status=succeeded&limit=1`)
  t.match(succeeded.body.value, [{ status: 'succeeded' }])
  const events = await (await fetch(succeeded.body.value[0].links.events)).text()
  t.match(events, /^event: status\nid: .*\ndata: .*"status":"succeeded"/m)
  // The listener tells the end of this job while the stream is open.
  const { body } = await post(`${url}/waiting`, { word: difficultWord })
  const stream = await fetch(body.links.events)
  await post(body.links.cancel, {})
  const statuses = [...(await stream.text()).matchAll(/^data: .*"status":"(\w+)"/gm)].map(([, status]) => status)
  t.same(statuses, ['queued', 'canceled'])
}

/** Enqueues a job in a transaction of the app's own connection, to which every setting applies. */
export async function checkEnqueue(
  t: Test,
  { app, url }: Api,
  databaseUrl: string,
  Client: typeof pg.Client = pg.Client,
): Promise<void> {
  const client = new Client({ connectionString: databaseUrl })
  // The database may be dropped before the connection has closed.
  client.on('error', () => {})
  await client.connect()
  t.teardown(() => client.end())
  await client.query('begin')
  const runAt = new Date(Date.now() + 3_600_000)
  const job = await app.accepted.enqueue(client, wait, { word: difficultWord }, { runAt })
  await client.query('commit')
  t.match(job, { status: 'queued', sequence: 1, attempt: 0 })
  t.ok(isRecent(job.createdAt))
  t.match(await get(`${url}/jobs/${job.id}`), {
    status: 200,
    body: { id: job.id, createdAt: job.createdAt, expiresAt: job.expiresAt },
  })
  const keepMs = 7 * 86_400_000
  t.ok(Math.abs(Date.parse(job.expiresAt) - runAt.getTime() - keepMs) < 60_000, job.expiresAt)
}
