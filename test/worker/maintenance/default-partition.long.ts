import { defineOperation } from 'accepted'
import { createWorker, defineHandlers } from 'accepted/worker'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { isContention } from '../../../src/db/sqlstate.ts'
import { maintainPartitions } from '../../../worker/maintenance/partitions.ts'
import { serve } from '../../support/api.ts'
import { get, post } from '../../support/client.ts'
import { asRole, beginTransaction, findBlockedBackends } from '../../support/database.ts'
import { until } from '../../support/until.ts'

const operation = defineOperation({
  name: 'note.create',
  summary: 'Create a note',
  route: { method: 'POST', url: '/notes' },
  input: Type.Object({ text: Type.String() }),
})

const step = 'select accepted.replace_default_partition() as step'
const today = new Date().toISOString().slice(0, 10).replaceAll('-', '')

async function setUp(t: Test) {
  const { url, database } = await serve(t, { operations: { operation } })
  // biome-ignore lint/suspicious/noExplicitAny: rows of any shape
  const query = async (text: string, values?: unknown[]): Promise<any[]> =>
    (await database.pool.query(text, values)).rows
  const warnings: string[] = []
  const log = pino({ level: 'warn' }, { write: (line) => void warnings.push(line) })
  return {
    url,
    database,
    query,
    warnings,
    maintain: () => maintainPartitions(database, log),
    nextStep: async () => (await query(step))[0].step as string | null,
    /** Drops the partitions of today and later, as if no worker had created them. */
    dropPartitions: () =>
      query(`do $$
        declare p record;
        begin
          for p in select * from accepted.job_partitions() loop execute format('drop table %s', p.partition); end loop;
        end $$`),
    /** Adds ended jobs, one a millisecond, that were accepted some days ago. */
    fill: (count: number, daysAgo = 0) =>
      query(
        `insert into accepted.job (id, operation, status, principal, max_attempts, created_at, ended_at, expires_at)
        select overlay(accepted.uuid_floor(at)::text placing '7' || substr(gen_random_uuid()::text, 16) from 15)::uuid,
          'note.create', 'succeeded', 'ann', 1, at, at, at + interval '7 days'
        from (select date_trunc('day', now() at time zone 'UTC') at time zone 'UTC' - $2 * interval '1 day'
          + n * interval '1 millisecond' as at from generate_series(1, $1) as n) as job`,
        [count, daysAgo],
      ),
    /** Returns how many jobs each partition holds. */
    places: async (): Promise<Record<string, number>> =>
      Object.fromEntries(
        (await query('select tableoid::regclass::text as place, count(*)::int from accepted.job group by 1')).map(
          ({ place, count }) => [place.replace('accepted.', ''), count],
        ),
      ),
    names: async () => (await query('select name from accepted.job_partitions() order by 1')).map(({ name }) => name),
    async work(perform: () => Promise<void>) {
      const handlers = defineHandlers({ operation }, { 'note.create': { perform } })
      const worker = await createWorker({
        handlers,
        database: asRole(database.options.url, 'worker'),
        log: pino({ level: 'silent' }),
      })
      t.teardown(() => worker.stop())
    },
  }
}

t.test('a large default partition becomes the partition of today as it is, without reading its jobs', async (t) => {
  const { database, query, nextStep, dropPartitions, fill, places, names, maintain, warnings } = await setUp(t)
  await dropPartitions()
  await fill(20_000)
  const [{ table }] = await query("select 'accepted.job_default'::regclass::oid as table")
  t.equal(await nextStep(), 'restricted')
  t.equal(await nextStep(), 'validated')
  // The counter includes what the session has read in earlier transactions.
  const readRows = 'select pg_stat_get_xact_tuples_returned($1)::int as count'
  const last = await beginTransaction(t, database, 'select')
  const before = (await last.client.query(readRows, [table])).rows
  t.match((await last.client.query(step)).rows, [{ step: /^replaced by / }])
  t.same((await last.client.query(readRows, [table])).rows, before)
  await last.commit()
  t.equal(await nextStep(), null)
  const [partition] = Object.keys(await places())
  t.same(await places(), { [partition as string]: 20_000 })
  t.same(await query("select to_regclass('accepted.' || $1)::oid as table", [partition]), [{ table }])
  await maintain()
  t.ok((await names()).length >= 3)
  t.same(await places(), { [partition as string]: 20_000 })
  t.same(warnings, [])
})

t.test('the table that was the default partition has the indexes of a partition, and names like theirs', async (t) => {
  const { query, dropPartitions, fill, maintain, names } = await setUp(t)
  const [like] = (await names()).slice(-1)
  const describe = (table: string) =>
    query(
      `select replace(pg_get_indexdef(indexrelid), $1, 'x') as index, conname is not null as is_constraint
      from pg_index left join pg_constraint on conindid = indexrelid
      where indrelid = to_regclass('accepted.' || $1) order by 1`,
      [table],
    )
  const expected = await describe(like)
  await dropPartitions()
  await fill(20_000)
  await maintain()
  const [replaced] = await query('select distinct tableoid::regclass::text as name from accepted.job')
  t.same(await describe(replaced.name.replace('accepted.', '')), expected)
  t.same(
    (await describe('job_default')).map(({ index }) => index),
    expected.map(({ index }) => index),
  )
  t.same(await query("select conname from pg_constraint where conname = 'job_default_range'"), [])
})

t.test('when only today lacks a partition, the new partition ends where the next one begins', async (t) => {
  const { query, fill, maintain, names, places } = await setUp(t)
  const before = await names()
  await query(`drop table accepted.job_${today}`)
  await fill(20_000)
  await maintain()
  t.same(await names(), before)
  t.same(await places(), { [`job_${today}`]: 20_000 })
})

t.test('jobs of several days share a partition; it is dropped with their keys when all have expired', async (t) => {
  const { query, fill, maintain, names, places } = await setUp(t)
  const before = await names()
  await fill(20_000, 3)
  await fill(20_000, 2)
  await query(`
    insert into accepted.idempotency_key (principal, key, fingerprint, job_id)
    select 'ann', id::text, sha256('x'), id from accepted.job`)
  await maintain()
  const [late] = Object.keys(await places())
  t.same(await places(), { [late as string]: 40_000 })
  await query(
    `update accepted.job set expires_at = now() where id < (select id from accepted.job order by id desc limit 1)`,
  )
  await maintain()
  t.same(await places(), { [late as string]: 40_000 })
  await query('update accepted.job set expires_at = now()')
  await maintain()
  t.same(await names(), before)
  t.same(await query('select from accepted.idempotency_key'), [])
  t.same(await query('select from accepted.expiry'), [])
})

t.test('an empty default partition that still takes up space is truncated', async (t) => {
  const { query, fill, maintain, warnings } = await setUp(t)
  await fill(20_000, 2)
  await query('delete from accepted.job')
  await maintain()
  t.same(await query("select pg_relation_size('accepted.job_default')::int as size"), [{ size: 0 }])
  t.same(warnings, [])
})

t.test('a default partition with jobs before and after a partition is kept, and the log says why', async (t) => {
  const { query, fill, maintain, names, places, warnings } = await setUp(t)
  const others = (await names()).slice(0, -1)
  await fill(20_000, 2)
  const last = (await names()).at(-1)
  await query(`drop table accepted.${last}`)
  const day = `${last.slice(4, 8)}-${last.slice(8, 10)}-${last.slice(10)}`
  await query(
    `insert into accepted.job (id, operation, principal, max_attempts, expires_at)
    values (accepted.uuid_floor($1::timestamptz), 'note.create', 'ann', 1, now() + interval '7 days')`,
    [`${day} 12:00Z`],
  )
  await maintain()
  t.same(await places(), { job_default: 20_001 })
  t.same(await names(), others)
  t.match(warnings.join(), /before and after a partition/)
})

for (const [what, prepare, statement, count] of [
  ['the default partition is replaced', [step, step], step, 20_000],
  ['a partition is created for jobs in the default partition', [], 'select accepted.create_job_partitions()', 100],
] as const) {
  t.test(`requests wait while ${what}, and then succeed`, async (t) => {
    const { url, database, query, dropPartitions, fill, places } = await setUp(t)
    await dropPartitions()
    await fill(count)
    const { headers } = await post(`${url}/notes`, { text: 'before' })
    for (const text of prepare) await query(text)
    const change = await beginTransaction(t, database, statement)
    const requests = [
      post(`${url}/notes`, { text: 'during' }),
      post(`${url}/notes`, { text: 'during' }, { 'idempotency-key': 'k' }),
      get(new URL(headers.get('location') as string, url).href),
    ]
    await until(async () => (await findBlockedBackends(query)).length >= 2)
    await change.commit()
    t.same(
      (await Promise.all(requests)).map(({ status }) => status),
      [202, 202, 202],
    )
    t.notOk('job_default' in (await places()))
    t.equal(
      Object.values(await places()).reduce((sum, n) => sum + n, 0),
      count + 3,
    )
  })
}

t.test('a request succeeds although its partition was created by hand while it waited', async (t) => {
  const { url, database, query, dropPartitions, places } = await setUp(t)
  await dropPartitions()
  const byHand = await beginTransaction(
    t,
    database,
    `create table accepted.job_${today} partition of accepted.job for values
      from (accepted.uuid_floor('${today}'::timestamptz)) to (accepted.uuid_floor('${today}'::timestamptz + interval '1 day'))`,
  )
  await byHand.commit()
  await query(`alter table accepted.job detach partition accepted.job_${today}`)
  // Attaching locks the default partition, but does not keep inserts from choosing it.
  const attach = await beginTransaction(
    t,
    database,
    `alter table accepted.job attach partition accepted.job_${today} for values
      from (accepted.uuid_floor('${today}'::timestamptz)) to (accepted.uuid_floor('${today}'::timestamptz + interval '1 day'))`,
  )
  const request = post(`${url}/notes`, { text: 'x' })
  await until(async () => (await findBlockedBackends(query)).length > 0)
  await attach.commit()
  t.equal((await request).status, 202)
  t.same(await places(), { [`job_${today}`]: 1 })
})

t.test('between the steps, an insert of a day outside the range fails as contention, which is retried', async (t) => {
  const { query, nextStep, dropPartitions, fill, places } = await setUp(t)
  await dropPartitions()
  await fill(20_000)
  const insert = () =>
    query(`
      insert into accepted.job (id, operation, principal, max_attempts, expires_at)
      values (accepted.uuid_floor(now() + interval '3 days'), 'note.create', 'ann', 1, now() + interval '7 days')`)
  t.equal(await nextStep(), 'restricted')
  const error = await insert().catch((error) => error)
  t.match(error, { constraint: 'job_default_range' })
  t.ok(isContention(error))
  t.equal(await nextStep(), 'validated')
  await nextStep()
  await insert()
  t.equal((await places()).job_default, 1)
})

t.test('while a transaction has locked a job, the default partition is kept; the next run replaces it', async (t) => {
  const { database, query, nextStep, dropPartitions, fill, places } = await setUp(t)
  await dropPartitions()
  await fill(20_000)
  await nextStep()
  await nextStep()
  const settling = await beginTransaction(t, database, 'select from accepted.job order by id limit 1 for update')
  await t.rejects(query(step), { code: '55P03' })
  t.same(await places(), { job_default: 20_000 })
  await settling.commit()
  t.match(await nextStep(), /^replaced by /)
})

t.test('workers that replace the default partition at the same time do it once', async (t) => {
  const { dropPartitions, fill, maintain, places, names, warnings } = await setUp(t)
  await dropPartitions()
  await fill(20_000)
  await Promise.all([maintain(), maintain(), maintain()])
  await maintain()
  t.notOk('job_default' in (await places()))
  t.ok((await names()).length >= 3)
  t.same(warnings, [])
})

t.test(
  'with 120,000 jobs in the default partition, requests and running jobs go on while it is replaced',
  async (t) => {
    const count = 120_000
    const { url, query, work, dropPartitions, fill, maintain, names, places, warnings } = await setUp(t)
    const finish = Promise.withResolvers<void>()
    let started = 0
    await dropPartitions()
    await work(async () => {
      started++
      // The first job runs until the partition is replaced.
      if (started === 1) await finish.promise
    })
    // The first maintenance of the worker is done when it has created the partitions.
    await until(async () => (await names()).length >= 4)
    await dropPartitions()
    await fill(count)
    const [{ last }] = await query('select id as last from accepted.job order by id desc limit 1')
    let isDone = false
    let slowest = 0
    const statuses = new Set<number>()
    const locations: string[] = []
    const counts = new Set<number>()
    const measure = async <Answer extends { status: number }>(request: Promise<Answer>) => {
      const startedAt = performance.now()
      const answer = await request
      slowest = Math.max(slowest, performance.now() - startedAt)
      statuses.add(answer.status)
      return answer
    }
    const request = async () => {
      while (!isDone) {
        const { headers } = await measure(post(`${url}/notes`, { text: 'x' }))
        const location = new URL(headers.get('location') as string, url).href
        locations.push(location)
        await measure(get(location))
      }
    }
    const countRows = async () => {
      while (!isDone)
        counts.add((await query('select count(*)::int from accepted.job where id <= $1', [last]))[0].count)
    }
    const running = [...Array.from({ length: 16 }, request), countRows()]
    await until(() => locations.length > 200 && started > 1)
    await maintain()
    const during = locations.length
    await until(() => locations.length > during + 200)
    isDone = true
    await Promise.all(running)
    finish.resolve()
    await until(async () => (await query('select from accepted.job where ended_at is null limit 1')).length === 0)
    t.comment(`slowest of ${2 * locations.length} requests: ${Math.round(slowest)} ms`)
    t.same(
      [...statuses].filter((status) => status >= 400),
      [],
    )
    t.same(counts, new Set([count]))
    const jobs = await query(
      'select status, attempt, count(*)::int from accepted.job where id > $1 group by status, attempt',
      [last],
    )
    t.same(jobs, [{ status: 'succeeded', attempt: 1, count: locations.length }])
    t.same(Object.values(await places()), [count + locations.length])
    t.notOk('job_default' in (await places()))
    t.same(warnings, [])
  },
)
