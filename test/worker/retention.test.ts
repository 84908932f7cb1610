import { pino } from 'pino'
import t, { type Test } from 'tap'
import { maintainPartitions } from '../../worker/retention.ts'
import { openTestDatabase } from '../support/database.ts'
import { until } from '../support/until.ts'

const day = "'2025-01-02'::timestamptz"

async function setUp(t: Test) {
  const database = await openTestDatabase(t)
  const query = async (text: string) => (await database.pool.query(text)).rows
  const warnings: string[] = []
  const log = pino({ level: 'warn' }, { write: (line) => void warnings.push(line) })
  return {
    database,
    query,
    warnings,
    maintain: (stopping?: AbortSignal) => maintainPartitions(database, log, stopping),
    partitions: async () =>
      (
        await query(
          "select inhrelid::regclass::text as name from pg_inherits where inhparent = 'accepted.job'::regclass",
        )
      )
        .map(({ name }) => name.replace('accepted.', ''))
        .filter((name) => /^job_\d{8}$/.test(name))
        .sort(),
    /** A partition of an old day, with a job that ended and expired, and its keys and attempt. */
    async makeOld(name = '20250102', key = 'k') {
      const day = `'${name}'::timestamptz`
      await query(`
        create table accepted.job_${name} partition of accepted.job
          for values from (accepted.uuid_floor(${day})) to (accepted.uuid_floor(${day} + interval '1 day'));
        insert into accepted.job (id, operation, state, principal, max_attempts, created_at, ended_at, expires_at)
          values (accepted.uuid_floor(${day}), 'x', 'succeeded', 'ann', 1, ${day}, ${day}, ${day} + interval '7 days');
        insert into accepted.idempotency_key values ('ann', '${key}', sha256('x'), accepted.uuid_floor(${day}));
        insert into accepted.processed_key values ('x', 'ann', '${key}', accepted.uuid_floor(${day}));
        insert into accepted.attempt values (accepted.uuid_floor(${day}), 1, '{}');
        insert into accepted.idempotency_key values ('ann', 'younger', sha256('x'), accepted.uuid_floor(now()))
          on conflict do nothing;`)
    },
    /** More jobs of the old day, each with a key. */
    addMore: (count: number) =>
      query(`
        with more as (
          insert into accepted.job (id, operation, state, principal, max_attempts, created_at, ended_at, expires_at)
          select accepted.uuid_floor(${day} + n * interval '1 s'), 'x', 'succeeded', 'ann', 1, ${day}, ${day}, ${day}
          from generate_series(1, ${count}) as n
          returning id
        )
        insert into accepted.idempotency_key select 'bob', id::text, sha256('x'), id from more`),
  }
}

const dayName = (offset: number) =>
  `job_${new Date(Date.now() + offset * 86_400_000).toISOString().slice(0, 10).replaceAll('-', '')}`

t.test('there are partitions for today and the days ahead, and making them again changes nothing', async (t) => {
  const { partitions, maintain } = await setUp(t)
  const ahead = [0, 1, 2, 3].map(dayName)
  t.same(await partitions(), ahead)
  await Promise.all([maintain(), maintain(), maintain()])
  t.same(await partitions(), ahead)
})

t.test('jobs that came before their partition are moved into it', async (t) => {
  const { query, partitions, maintain } = await setUp(t)
  await query(`drop table accepted.${dayName(0)}`)
  await query(`
    insert into accepted.job (id, operation, principal, max_attempts, expires_at)
    select accepted.uuid_floor(now()), 'x', 'ann', 1, now() + interval '7 days'`)
  t.same(await query('select tableoid::regclass::text as place from accepted.job'), [{ place: 'accepted.job_default' }])
  await maintain()
  t.equal((await partitions()).length, 4)
  t.same(await query('select tableoid::regclass::text as place from accepted.job'), [
    { place: `accepted.${dayName(0)}` },
  ])
})

t.test(
  'a partition whose every job has expired is dropped, with the keys and attempts that belong to it',
  async (t) => {
    const { query, partitions, maintain, makeOld } = await setUp(t)
    await makeOld()
    await maintain()
    t.notOk((await partitions()).includes('job_20250102'))
    t.same(await query('select key from accepted.idempotency_key'), [{ key: 'younger' }])
    t.same(await query('select from accepted.processed_key'), [])
    t.same(await query('select from accepted.attempt'), [])
  },
)

for (const [what, change] of [
  ['has not ended', `state = 'queued', ended_at = null`],
  ['ended not long ago', `expires_at = now() + interval '1 day'`],
] as const) {
  t.test(`a job that ${what} keeps its partition`, async (t) => {
    const { query, partitions, maintain, makeOld } = await setUp(t)
    await makeOld()
    await query(`update accepted.job set ${change}`)
    await maintain()
    t.ok((await partitions()).includes('job_20250102'))
    t.equal((await query('select from accepted.idempotency_key')).length, 2)
  })
}

t.test('somebody who holds the table does not hold up the worker: it is done another time', async (t) => {
  const { database, partitions, maintain, makeOld } = await setUp(t)
  await makeOld()
  const reader = await database.pool.connect()
  await reader.query('begin')
  await reader.query('select from accepted.job')
  await maintain()
  t.ok((await partitions()).includes('job_20250102'))
  await reader.query('commit')
  reader.release()
  await maintain()
  t.notOk((await partitions()).includes('job_20250102'))
})

t.test(
  'each day goes in a transaction of its own: while the next one is under way, nobody waits for the table',
  async (t) => {
    const { database, query, partitions, maintain, makeOld } = await setUp(t)
    await makeOld('20250102', 'k')
    await makeOld('20250103', 'held')
    const holder = await database.pool.connect()
    await holder.query("begin; select from accepted.idempotency_key where key = 'held' for update")
    const maintained = maintain()
    try {
      await until(async () => !(await partitions()).includes('job_20250102'))
      t.equal((await query('select from accepted.job')).length, 1)
    } finally {
      await holder.query('commit')
      holder.release()
    }
    await maintained
    t.notOk((await partitions()).includes('job_20250103'))
  },
)

t.test('the keys of a day go some at a time, each time in a transaction of its own', async (t) => {
  const { database, query, partitions, maintain, makeOld, addMore } = await setUp(t)
  await makeOld()
  await addMore(11_999)
  const left = async () => (await query('select from accepted.idempotency_key')).length
  const holder = await database.pool.connect()
  await holder.query('begin')
  await holder.query(
    "select from accepted.idempotency_key where principal = 'bob' order by key desc limit 1 for update",
  )
  const maintained = maintain()
  try {
    await until(async () => (await left()) === 2_001)
    t.ok((await partitions()).includes('job_20250102'))
  } finally {
    await holder.query('commit')
    holder.release()
  }
  await maintained
  t.equal(await left(), 1)
  t.notOk((await partitions()).includes('job_20250102'))
})

t.test('a worker that stops leaves the rest for another time', async (t) => {
  const { query, partitions, maintain, warnings, makeOld, addMore } = await setUp(t)
  await makeOld()
  await addMore(12_000)
  await maintain(AbortSignal.abort())
  t.ok((await partitions()).includes('job_20250102'))
  t.equal((await query('select from accepted.idempotency_key')).length, 12_002)
  await maintain()
  t.notOk((await partitions()).includes('job_20250102'))
  t.same(warnings, [])
})

t.test('several workers that begin at once delete and drop everything together, and nothing fails', async (t) => {
  const { query, partitions, maintain, warnings, makeOld, addMore } = await setUp(t)
  await makeOld()
  await addMore(12_000)
  await makeOld('20250103', 'other')
  await Promise.all([maintain(), maintain(), maintain(), maintain()])
  t.same(
    (await partitions()).filter((name) => name.startsWith('job_2025')),
    [],
  )
  t.same(await query('select key from accepted.idempotency_key'), [{ key: 'younger' }])
  t.same(warnings, [])
})

t.test(
  'keys are asked for by who has the turn: others are told so, and who comes after the drop that none are left',
  async (t) => {
    const { database, query, maintain, makeOld } = await setUp(t)
    await makeOld()
    const first = "select accepted.delete_keys_of_jobs('job_20250102', null, 10) as last"
    const holder = await database.pool.connect()
    await holder.query('begin')
    t.same((await holder.query(first)).rows, await query('select id as last from accepted.job'))
    t.same(await query(first), [{ last: null }])
    await holder.query('commit')
    holder.release()
    await maintain()
    t.same(await query(first), [{ last: 'ffffffff-ffff-ffff-ffff-ffffffffffff' }])
  },
)

t.test('of several workers at once, one drops the partition, and the others neither wait nor fail', async (t) => {
  const { query, partitions, makeOld } = await setUp(t)
  await makeOld()
  const drop = 'select accepted.drop_expired_job_partitions() as name'
  const dropped = await Promise.all([query(drop), query(drop), query(drop), query(drop)])
  t.same(dropped.flat(), [{ name: 'job_20250102' }])
  t.notOk((await partitions()).includes('job_20250102'))
})

t.test('jobs that ended and expired before they had a partition go as well, with their keys', async (t) => {
  const { query, maintain } = await setUp(t)
  await query(`
    insert into accepted.job (id, operation, state, principal, max_attempts, created_at, ended_at, expires_at)
      values (accepted.uuid_floor(${day}), 'x', 'succeeded', 'ann', 1, ${day}, ${day}, ${day} + interval '7 days');
    insert into accepted.idempotency_key values ('ann', 'k', sha256('x'), accepted.uuid_floor(${day}));`)
  t.same(await query('select tableoid::regclass::text as place from accepted.job'), [{ place: 'accepted.job_default' }])
  await maintain()
  t.same(await query('select from accepted.job'), [])
  t.same(await query('select from accepted.idempotency_key'), [])
})
