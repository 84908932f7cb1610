import { pino } from 'pino'
import t, { type Test } from 'tap'
import { type Database, openDatabase } from '../../src/db/database.ts'
import { maintainPartitions } from '../../worker/retention.ts'
import { createDatabase, openTestDatabase } from '../support/database.ts'
import { until } from '../support/until.ts'

const day = "'2025-01-02'::timestamptz"

const setUp = async (t: Test) => setUpOn(await openTestDatabase(t))

function setUpOn(database: Database) {
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

t.test('who waits behind a change of the table waits for less than the half second that a batch waits', async (t) => {
  const { query } = await setUp(t)
  const settings = await query(`
    select proname as name, proconfig as settings from pg_proc
    where pronamespace = 'accepted'::regnamespace and prosrc ~ 'drop table|attach partition' order by proname`)
  t.same(
    settings.map(({ name }) => name),
    ['create_job_partitions', 'delete_jobs_of_day'],
  )
  for (const { settings: of } of settings) t.ok(of.includes('lock_timeout=100ms'))
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

/** Waits until somebody waits for a lock. */
const untilBlocked = (query: (text: string) => Promise<unknown[]>) =>
  until(async () => {
    const blocked = await query(
      "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    )
    return blocked.length > 0
  })

/** Holds the key of the last of more jobs while something is done. */
async function holdingLastKey(database: Database, work: () => Promise<void>): Promise<void> {
  const holder = await database.pool.connect()
  try {
    await holder.query('begin')
    await holder.query(
      "select from accepted.idempotency_key where principal = 'bob' order by key desc limit 1 for update",
    )
    await work()
  } finally {
    await holder.query('rollback')
    holder.release()
  }
}

t.test('the keys of a day go some at a time, each time in a transaction of its own', async (t) => {
  const { database, query, partitions, maintain, makeOld, addMore } = await setUp(t)
  await makeOld()
  await addMore(12_000)
  const left = async () => (await query('select from accepted.idempotency_key')).length
  let maintained: Promise<void> | undefined
  await holdingLastKey(database, async () => {
    maintained = maintain()
    await untilBlocked(query)
    const kept = await left()
    t.ok(kept > 1 && kept < 3_000, `${kept} are left`)
    t.ok((await partitions()).includes('job_20250102'))
  })
  await maintained
  t.equal(await left(), 1)
  t.notOk((await partitions()).includes('job_20250102'))
})

t.test('a row of a table of keys is read once for a day, and by no index', async (t) => {
  const database = openDatabase({ url: await createDatabase(t), poolSize: 1 })
  t.teardown(() => database.close())
  const { query, maintain, makeOld, addMore } = setUpOn(database)
  await makeOld()
  await addMore(12_000)
  const read = async () => {
    await query('select pg_stat_force_next_flush()')
    return (
      await query(`
        select seq_tup_read::int as rows, idx_scan::int as looks from pg_stat_user_tables
        where relid = 'accepted.idempotency_key'::regclass`)
    )[0] as { rows: number; looks: number }
  }
  const before = await read()
  // By another worker, which has stopped then.
  t.same(await query('select accepted.begin_expiry()::text as day'), [{ day: '2025-01-02' }])
  t.same(await query("select accepted.delete_keys_of_day('2025-01-02', 20) as more"), [{ more: true }])
  t.equal((await query('select from accepted.job')).length, 12_001)
  await maintain()
  const after = await read()
  t.equal(after.rows - before.rows, 12_002)
  t.equal(after.looks, before.looks)
  t.same(await query('select from accepted.expiry'), [])
})

t.test('a worker that stops leaves the rest for another time', async (t) => {
  const { database, query, partitions, maintain, warnings, makeOld, addMore } = await setUp(t)
  await makeOld()
  await addMore(12_000)
  const stopping = new AbortController()
  let maintained: Promise<void> | undefined
  await holdingLastKey(database, async () => {
    maintained = maintain(stopping.signal)
    await untilBlocked(query)
    stopping.abort()
  })
  await maintained
  t.ok((await partitions()).includes('job_20250102'))
  t.equal((await query('select from accepted.job')).length, 12_001)
  t.equal((await query('select from accepted.expiry')).length, 1)
  await maintain()
  t.notOk((await partitions()).includes('job_20250102'))
  t.same(warnings, [])
})

t.test('one that has stopped begins nothing', async (t) => {
  const { query, maintain, makeOld } = await setUp(t)
  await makeOld()
  await maintain(AbortSignal.abort())
  t.equal((await query('select from accepted.idempotency_key')).length, 2)
})

t.test(
  'several workers that begin at once delete everything together, some at a time, and nothing fails',
  async (t) => {
    const { query, partitions, maintain, warnings, makeOld, addMore } = await setUp(t)
    await makeOld('20250101', 'early')
    await makeOld()
    await addMore(12_000)
    await makeOld('20250103', 'other')
    await query(`
    create table deleted (count bigint);
    create function note_deleted() returns trigger language plpgsql as $$
    begin
      insert into deleted select count(*) from gone;
      return null;
    end $$;
    create trigger note_deleted after delete on accepted.idempotency_key
      referencing old table as gone for each statement execute function note_deleted();`)
    await Promise.all([maintain(), maintain(), maintain(), maintain()])
    t.same(
      (await partitions()).filter((name) => name.startsWith('job_2025')),
      [],
    )
    t.same(await query('select key from accepted.idempotency_key'), [{ key: 'younger' }])
    t.same(warnings, [])
    const [counts] = await query('select sum(count)::int as all, max(count)::int as most from deleted')
    t.equal(counts.all, 12_003)
    t.ok(counts.most < 3_000, `${counts.most} at once`)
  },
)

for (const step of ["accepted.delete_keys_of_day('2025-01-02', 10)", "accepted.delete_jobs_of_day('2025-01-02', 10)"]) {
  t.test(`${step}: one at a time, and others are told so`, async (t) => {
    const { database, query, makeOld } = await setUp(t)
    await makeOld()
    await query('select accepted.begin_expiry()')
    const holder = await database.pool.connect()
    await holder.query('begin')
    t.same((await holder.query(`select ${step} as more`)).rows, [{ more: false }])
    t.same(await query('select accepted.begin_expiry() as day'), [{ day: null }])
    t.same(await query(`select ${step} as more`), [{ more: null }])
    await holder.query('commit')
    holder.release()
    t.same(await query(`select ${step} as more`), [{ more: false }])
  })
}

t.test('a day that has come alive again, by hand, is not dropped', async (t) => {
  const { query, partitions, maintain, makeOld } = await setUp(t)
  await makeOld()
  await query('select accepted.begin_expiry()')
  await query("update accepted.job set expires_at = now() + interval '1 day'")
  t.same(await query("select accepted.delete_jobs_of_day('2025-01-02', 10) as more"), [{ more: null }])
  t.ok((await partitions()).includes('job_20250102'))
  // It keeps no other day from going.
  await makeOld('20250103', 'other')
  await maintain()
  t.same(
    (await partitions()).filter((name) => name.startsWith('job_2025')),
    ['job_20250102'],
  )
})

t.test('a partition that was detached, to be kept, is not dropped with what else there is of its day', async (t) => {
  const { query, maintain, makeOld } = await setUp(t)
  await makeOld()
  await query('alter table accepted.job detach partition accepted.job_20250102')
  await query('insert into accepted.job select * from accepted.job_20250102')
  await maintain()
  t.same(await query('select from accepted.job'), [])
  t.equal((await query('select from accepted.job_20250102')).length, 1)
})

t.test('jobs that ended and expired before they had a partition go as well, with their keys', async (t) => {
  const { query, maintain } = await setUp(t)
  await query(`
    insert into accepted.job (id, operation, state, principal, max_attempts, created_at, ended_at, expires_at)
      select accepted.uuid_floor(${day} + n * interval '1 s'), 'x', 'succeeded', 'ann', 1, ${day}, ${day}, ${day}
      from generate_series(1, 2500) as n;
    insert into accepted.job (id, operation, principal, max_attempts, expires_at)
      values (accepted.uuid_floor(${day} + interval '2 days'), 'x', 'ann', 1, ${day});
    insert into accepted.idempotency_key values ('ann', 'k', sha256('x'), accepted.uuid_floor(${day} + interval '9 s'));`)
  t.same(await query('select distinct tableoid::regclass::text as place from accepted.job'), [
    { place: 'accepted.job_default' },
  ])
  await maintain()
  t.same(await query('select state from accepted.job'), [{ state: 'queued' }])
  t.same(await query('select from accepted.idempotency_key'), [])
  t.same(await query('select from accepted.expiry'), [])
})
