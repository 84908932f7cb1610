import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { type AbandonedJob, type Accepted, connect, defineOperation } from 'accepted'
import { defineHandlers, JobFailed } from 'accepted/worker'
import type { Kysely, Transaction } from 'kysely'
import pg from 'pg'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { serve } from '../support/api.ts'
import { get, post } from '../support/client.ts'
import { asRole, createDatabase, queryOnce } from '../support/database.ts'
import { type EffectTables, openJobs } from '../support/jobs.ts'
import { until } from '../support/until.ts'

const input = Type.Object({ word: Type.String() })
const note = defineOperation({ name: 'note.create', input, retry: { limit: 0 } })
const long = defineOperation({ name: 'note.long', input, result: Type.Object({ text: Type.String() }) })
const undone = defineOperation({
  ...{ name: 'note.undo', input },
  abandon: (trx: Transaction<EffectTables>, jobs: AbandonedJob[]) =>
    trx
      .insertInto('effect')
      .values(jobs.map(({ id }) => ({ job_id: id, word: 'undone' })))
      .execute(),
})
const full = defineOperation({ name: 'note.full', input, maxBacklogPerPrincipal: 1 })
const operations = { note, long, undone, full }

const handlers = defineHandlers(operations, {
  'note.create': {
    perform: async ({ payload: { word }, signal }) => {
      if (word === 'fails') throw new JobFailed('refused', 'This word is refused')
      if (word === 'waits') await once(signal, 'abort')
    },
  },
  'note.long': { perform: async ({ payload }) => ({ text: payload.word.repeat(20_000) }) },
  'note.undo': { perform: async () => {} },
  'note.full': { perform: async () => {} },
})

/** A database with a worker, the API and a connection of our own. */
async function setUp(t: Test) {
  const url = await createDatabase(t)
  const jobs = await openJobs(t, Object.values(operations), url)
  const accepted = await connect({ operations, database: asRole(url, 'api') })
  t.teardown(() => accepted.close())
  const enqueue = (word: string, principal = 'ann') =>
    inTransaction(accepted, (trx) => accepted.enqueue(trx, note, { word }, { principal }))
  const ended = (id: string) =>
    until(async () => {
      const job = await accepted.get(id)
      return job?.endedAt !== undefined && job
    })
  return { url, jobs, accepted, enqueue, ended }
}

const inTransaction = <Result>({ db }: Accepted, work: (trx: Transaction<EffectTables>) => Promise<Result>) =>
  (db as Kysely<EffectTables>).transaction().execute(work)

t.test('connect', async (t) => {
  const { url, jobs, accepted, enqueue, ended } = await setUp(t)

  t.test('jobs and rows of the app commit together, and roll back together', async (t) => {
    const words = async () => (await jobs.query('select word from effect order by word')).map(({ word }) => word)
    const add = (word: string) => async (trx: Transaction<EffectTables>) => {
      const job = await accepted.enqueue(trx, note, { word })
      await trx.insertInto('effect').values({ job_id: job.id, word }).execute()
      if (word === 'rolled back') throw new Error('no')
      return job
    }
    const job = await inTransaction(accepted, add('kept'))
    t.match(job, {
      operation: 'note.create',
      status: 'queued',
      attempt: 0,
      sequence: 1,
      links: { self: `/jobs/${job.id}` },
    })
    t.same(await accepted.get(job.id), job)
    await t.rejects(inTransaction(accepted, add('rolled back')), /no/)
    t.same(await words(), ['kept'])
    const [{ count }] = (await jobs.query('select count(*)::integer from accepted.job')) as [{ count: number }]
    t.equal(count, 1)
  })

  t.test('a pg client enqueues several jobs and a batch, and its commit notifies the workers', async (t) => {
    const client = await jobs.database.pool.connect()
    t.teardown(() => client.release())
    const listener = new pg.Client({ connectionString: url })
    await listener.connect()
    t.teardown(() => listener.end())
    await listener.query('listen accepted_work')
    const notified: (string | undefined)[] = []
    listener.on('notification', ({ payload }) => notified.push(payload))
    await client.query('begin')
    const all = await accepted.enqueueAll(client, [
      { operation: note, payload: { word: 'a' }, principal: 'bob', runAt: new Date('2100-01-01') },
      { operation: long, payload: { word: 'b' }, key: 'k' },
    ])
    t.same(await accepted.enqueueAll(client, []), [])
    const batch = await accepted.enqueueBatch(client, { items: [{ operation: note, payload: { word: 'c' } }] })
    t.equal(await accepted.get(batch.id), undefined, 'nothing is visible before the commit')
    t.same(notified, [])
    await client.query('commit')
    await until(() => notified.includes('note.create') && notified.includes('note.long'))
    t.match(all, [{ operation: 'note.create' }, { operation: 'note.long' }])
    t.match(await accepted.get(batch.id), { operation: 'batch', children: { total: 1 } })
    const rows = await jobs.query(
      'select principal, idempotency_key from accepted.job where id = any($1) order by id',
      [all.map(({ id }) => id)],
    )
    t.same(rows, [
      { principal: 'bob', idempotency_key: null },
      { principal: 'anonymous', idempotency_key: 'k' },
    ])
  })

  t.test('a queued job is canceled at once; a principal sees only its own jobs', async (t) => {
    const { id } = await enqueue('x')
    t.equal(await accepted.get(id, { principal: 'bob' }), undefined)
    await t.rejects(accepted.cancel(id, { principal: 'bob' }), { code: 'not-found' })
    t.match(await accepted.cancel(id, { principal: 'ann' }), { id, status: 'canceled', cancelRequested: true })
    t.match(await accepted.cancel(id), { id, status: 'canceled' })
    const audit = await jobs.query('select principal from accepted.audit where object = $1', [id])
    t.same(audit, [{ principal: 'ann' }], 'the audit has the principal, and the second call has changed nothing')
    await t.rejects(accepted.cancel('none'), { code: 'not-found' })
    t.equal(await accepted.get('none'), undefined)
  })

  t.test('cancel of a queued job commits with its abandon', async (t) => {
    const { id } = await inTransaction(accepted, (trx) => accepted.enqueue(trx, undone, { word: 'x' }))
    t.match(await accepted.cancel(id), { status: 'canceled' })
    t.same(await jobs.query('select word from effect where job_id = $1', [id]), [{ word: 'undone' }])
  })

  await t.test('a retry whose backlog is full is refused, unless it repeats an earlier one', async (t) => {
    const add = () => inTransaction(accepted, (trx) => accepted.enqueue(trx, full, { word: 'x' }))
    const { id } = await add()
    await accepted.cancel(id)
    const again = await accepted.retry(id, { key: 'k' })
    await t.rejects(accepted.retry(id), { code: 'principal-backlog-full' })
    t.equal((await accepted.retry(id, { key: 'k' })).id, again.id)
  })

  await jobs.work(handlers)

  t.test('a running job gets a cancel request, and its handler is aborted', async (t) => {
    const { id } = await enqueue('waits')
    await until(async () => (await accepted.get(id))?.status === 'running')
    t.match(await accepted.cancel(id), { status: 'running', cancelRequested: true })
    t.match(await ended(id), { status: 'canceled' })
  })

  t.test('a failed job is retried as a new job, and a key makes it one new job', async (t) => {
    const { id } = await enqueue('fails')
    t.match(await ended(id), { status: 'failed', error: { code: 'refused', message: 'This word is refused' } })
    await t.rejects(accepted.cancel(id), { code: 'job-ended', message: /already failed/ })
    const again = await accepted.retry(id, { key: 'k', principal: 'ann' })
    t.match(again, { status: 'queued', retryOf: id })
    t.equal((await accepted.retry(id, { key: 'k' })).id, again.id, 'the owner is the default principal')
    await t.rejects(accepted.retry(again.id, { key: 'k', principal: 'ann' }), { code: /^(idempotency-key-reused)$/ })
    await t.rejects(accepted.retry(id, { key: '\n' }), { code: 'invalid-idempotency-key' })
    await t.rejects(accepted.retry(id, { principal: 'bob' }), { code: 'not-found' })
    t.match(await ended(again.id), { status: 'failed' })
  })

  t.test('get has the whole result, however large', async (t) => {
    const { id } = await inTransaction(accepted, (trx) => accepted.enqueue(trx, long, { word: 'long' }))
    const job = await ended(id)
    t.match(job, { status: 'succeeded' })
    t.equal((job.result as { text: string }).text.length, 80_000)
    await t.rejects(accepted.retry(id), { code: 'job-not-retryable' })
  })

  t.test('wrong arguments get a TypeError that says what to do', async (t) => {
    const other = defineOperation({ name: 'other', input })
    const add = (work: (trx: Transaction<EffectTables>) => Promise<unknown>) => inTransaction(accepted, work)
    await t.rejects(accepted.enqueue(accepted.db as never, note, { word: 'x' }), /needs a transaction/)
    await t.rejects(
      add((trx) => accepted.enqueue(trx, other, { word: 'x' })),
      /'other' is not registered/,
    )
    await t.rejects(
      add((trx) => accepted.enqueue(trx, note, {} as never)),
      TypeError,
    )
    await t.rejects(
      add((trx) => accepted.enqueue(trx, note, { word: 'x' }, { principal: '*' })),
      TypeError,
    )
    await t.rejects(accepted.cancel('x', { princpal: 'ann' } as never), /Did you mean 'principal'/)
    await t.rejects(connect({ operations, databse: url } as never), /Did you mean 'database'/)
    await t.rejects(connect({ operations: {}, database: url }), /no operation/)
    await t.rejects(connect({ operations, database: url, publicUrl: 'x' }), /publicUrl must be/)
  })
})

t.test('the app and HTTP clients see the same job, and share the keys of retries', async (t) => {
  const { app, url, database } = await serve(t, { operations })
  const own = await connect({ operations, database: asRole(database.options.url, 'api'), publicUrl: url })
  t.teardown(() => own.close())
  for (const accepted of [own, app.accepted]) {
    const { id } = await inTransaction(accepted, (trx) => accepted.enqueue(trx, note, { word: 'x' }))
    t.match(await get(`${url}/jobs/${id}`), { status: 200, body: { id } })
    await accepted.cancel(id)
    const { body } = await get(`${url}/jobs/${id}`)
    t.same(await own.get(id), body)
    const retried = await post(`${url}/jobs/${id}/retry`, {}, { 'idempotency-key': id })
    t.equal((await accepted.retry(id, { key: id })).id, retried.body.id)
  }
})

t.test('a pg.Pool lends its settings, but not its connections', async (t) => {
  const url = new URL(asRole(await createDatabase(t), 'api'))
  const { hostname: host, port, pathname, username: user, password } = url
  const asked: number[] = []
  const pool = new pg.Pool({
    ...{ host, port: Number(port), database: pathname.slice(1), user, max: 3 },
    password: async () => {
      asked.push(1)
      return password
    },
  })
  t.teardown(() => pool.end())
  const accepted = await connect({ operations, database: pool })
  const job = await inTransaction(accepted, (trx) => accepted.enqueue(trx, note, { word: 'x' }))
  t.match(await accepted.get(job.id), { status: 'queued' })
  t.ok(asked.length > 0)
  t.equal(pool.totalCount, 0)
  const names = `select distinct application_name as name from pg_stat_activity
    where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()`
  t.match((await pool.query(names)).rows, [{ name: /^accepted api / }])
  await Promise.all([accepted.close(), accepted.close()])
  await until(async () => (await pool.query(names)).rows.length === 0)
  t.same((await pool.query('select 1 as one')).rows, [{ one: 1 }], 'the pool is still open')
})

t.test('a database that is not migrated is refused, and no connection stays open', async (t) => {
  const url = await createDatabase(t, { empty: true })
  await t.rejects(connect({ operations, database: url }), /accepted migrate/)
  const others =
    'select count(*)::integer from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()'
  await until(async () => (await queryOnce(url, others))[0].count === 0)
})

t.test('connect loads no HTTP server', async (t) => {
  const url = asRole(await createDatabase(t), 'api')
  const code = `import module from 'node:module'
    const urls = []
    module.registerHooks({
      resolve(specifier, context, next) {
        const resolved = next(specifier, context)
        urls.push(resolved.url)
        return resolved
      },
    })
    const { connect, defineOperation } = await import('accepted')
    const { Type } = await import('typebox')
    const note = defineOperation({ name: 'note.create', input: Type.Object({}) })
    const accepted = await connect({ operations: { note }, database: ${JSON.stringify(url)} })
    const { id } = await accepted.db.transaction().execute((trx) => accepted.enqueue(trx, note, {}))
    const { status } = await accepted.cancel(id)
    await accepted.close()
    console.log(JSON.stringify({ status, urls }))`
  const args = ['--conditions=accepted-source', '--input-type=module', '--eval', code]
  const { stdout, stderr } = spawnSync(process.execPath, args, {
    cwd: join(import.meta.dirname, '../..'),
    encoding: 'utf8',
  })
  t.equal(stderr, '')
  const { status, urls } = JSON.parse(stdout) as { status: string; urls: string[] }
  t.equal(status, 'canceled')
  t.ok(urls.some((url) => url.endsWith('/src/connect/core.ts')))
  t.same(
    urls.filter((url) => /\/node_modules\/(@fastify|fastify|avvio|find-my-way|light-my-request)\//.test(url)),
    [],
  )
  t.same(
    urls.flatMap((url) => url.match(/\/src\/(http\/.*)/)?.[1] ?? []),
    ['http/accepted.ts', 'http/jwt.ts'],
  )
})
