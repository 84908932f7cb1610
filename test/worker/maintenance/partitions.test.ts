import { pino } from 'pino'
import t, { type Test } from 'tap'
import { type Database, openDatabase } from '../../../src/db/database.ts'
import { maintainPartitions } from '../../../worker/maintenance/partitions.ts'
import { beginTransaction, createDatabase, findBlockedBackends, openTestDatabase } from '../../support/database.ts'
import { until } from '../../support/until.ts'

const day = "'2025-01-02'::timestamptz"

const setUp = async (t: Test) => setUpOn(await openTestDatabase(t))

function setUpOn(database: Database) {
  const query = async (text: string, values?: unknown[]) => (await database.pool.query(text, values)).rows
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
    /** Creates the partition of an old day with an expired job, and the keys and the attempt of that job. */
    async createExpiredDay(name = '20250102', key = 'k') {
      const day = `'${name}'::timestamptz`
      await query(`
        create table accepted.job_${name} partition of accepted.job
          for values from (accepted.uuid_floor(${day})) to (accepted.uuid_floor(${day} + interval '1 day'));
        alter table accepted.job_${name} owner to accepted_owner;
        insert into accepted.job (id, operation, status, principal, max_attempts, created_at, ended_at, expires_at)
          values (accepted.uuid_floor(${day}), 'x', 'succeeded', 'ann', 1, ${day}, ${day}, ${day} + interval '7 days');
        insert into accepted.idempotency_key values ('ann', '${key}', sha256('x'), accepted.uuid_floor(${day}));
        insert into accepted.processed_key values ('x', 'ann', '${key}', accepted.uuid_floor(${day}));
        insert into accepted.coalesced_key values ('x', 'ann', '${key}', accepted.uuid_floor(${day}), ${day});
        insert into accepted.attempt values (accepted.uuid_floor(${day}), 1, '{}');
        insert into accepted.idempotency_key values ('ann', 'younger', sha256('x'), accepted.uuid_floor(now()))
          on conflict do nothing;`)
    },
    /** Adds expired jobs of 2 January 2025. Each job has a key. */
    addExpiredJobs: (count: number) =>
      query(`
        with more as (
          insert into accepted.job (id, operation, status, principal, max_attempts, created_at, ended_at, expires_at)
          select accepted.uuid_floor(${day} + n * interval '1 s'), 'x', 'succeeded', 'ann', 1, ${day}, ${day}, ${day}
          from generate_series(1, ${count}) as n
          returning id
        )
        insert into accepted.idempotency_key select 'bob', id::text, sha256('x'), id from more`),
  }
}

const dayName = (offset: number) =>
  `job_${new Date(Date.now() + offset * 86_400_000).toISOString().slice(0, 10).replaceAll('-', '')}`

t.test('there are partitions for today and the next three days, and creating them again changes nothing', async (t) => {
  const { partitions, maintain } = await setUp(t)
  const ahead = [0, 1, 2, 3].map(dayName)
  t.same(await partitions(), ahead)
  await Promise.all([maintain(), maintain(), maintain()])
  t.same(await partitions(), ahead)
})

t.test('jobs that were added before their partition existed are moved into that partition', async (t) => {
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
  'when all jobs of a partition have expired, the partition is dropped with the keys and attempts of its jobs',
  async (t) => {
    const { query, partitions, maintain, createExpiredDay } = await setUp(t)
    await createExpiredDay()
    await maintain()
    t.notOk((await partitions()).includes('job_20250102'))
    t.same(await query('select key from accepted.idempotency_key'), [{ key: 'younger' }])
    for (const table of ['processed_key', 'coalesced_key', 'attempt']) {
      t.same(await query(`select from accepted.${table}`), [], table)
    }
  },
)

for (const [what, change] of [
  [
    'has not ended',
    `insert into accepted.job (id, operation, principal, max_attempts, expires_at)
    select accepted.uuid_floor('20250102'::timestamptz + interval '1 hour'), 'x', 'ann', 1, now()`,
  ],
  ['has not expired', `update accepted.job set expires_at = now() + interval '1 day'`],
] as const) {
  t.test(`a partition is kept while a job in it ${what}`, async (t) => {
    const { query, partitions, maintain, createExpiredDay } = await setUp(t)
    await createExpiredDay()
    await query(change)
    await maintain()
    t.ok((await partitions()).includes('job_20250102'))
    t.equal((await query('select from accepted.idempotency_key')).length, 2)
  })
}

t.test('while a transaction locks the job table, an expired partition is kept; the next run drops it', async (t) => {
  const { database, partitions, maintain, createExpiredDay } = await setUp(t)
  await createExpiredDay()
  const reader = await beginTransaction(t, database, 'select from accepted.job')
  await maintain()
  t.ok((await partitions()).includes('job_20250102'))
  await reader.commit()
  await maintain()
  t.notOk((await partitions()).includes('job_20250102'))
})

// A batch of requests waits up to 500 ms for a lock. These functions wait less, so they do not make a batch time out.
t.test('functions that lock the whole job table wait at most 100 ms for the lock', async (t) => {
  const { query } = await setUp(t)
  const settings = await query(`
    select proname as name, proconfig as settings from pg_proc
    where pronamespace = 'accepted'::regnamespace and prosrc ~ 'drop table|attach partition' order by proname`)
  t.same(
    settings.map(({ name }) => name),
    ['create_job_partitions', 'delete_jobs_of_day', 'replace_default_partition'],
  )
  for (const { settings: options } of settings) t.ok(options.includes('lock_timeout=100ms'))
})

t.test(
  'each day is dropped in its own transaction, so the job table is not locked while the next day is deleted',
  async (t) => {
    const { database, query, partitions, maintain, createExpiredDay } = await setUp(t)
    await createExpiredDay('20250102', 'k')
    await createExpiredDay('20250103', 'held')
    const lock = await beginTransaction(
      t,
      database,
      "select from accepted.idempotency_key where key = 'held' for update",
    )
    const maintained = maintain()
    await until(async () => !(await partitions()).includes('job_20250102'))
    t.equal((await query('select from accepted.job')).length, 1)
    await lock.commit()
    await maintained
    t.notOk((await partitions()).includes('job_20250103'))
  },
)

/** Locks the last key that `addExpiredJobs` added. The deletion of that key waits for the lock. */
const lockLastKey = (t: Test, database: Database) =>
  beginTransaction(
    t,
    database,
    "select from accepted.idempotency_key where principal = 'bob' order by key desc limit 1 for update",
  )

t.test('the keys of a day are deleted in several parts, and each part has its own transaction', async (t) => {
  const { database, query, partitions, maintain, createExpiredDay, addExpiredJobs } = await setUp(t)
  await createExpiredDay()
  await addExpiredJobs(12_000)
  const countKeys = async () => (await query('select from accepted.idempotency_key')).length
  const lock = await lockLastKey(t, database)
  const maintained = maintain()
  await until(async () => (await findBlockedBackends(query)).length > 0)
  const remaining = await countKeys()
  t.ok(remaining > 1 && remaining < 3_000, `${remaining} keys are left`)
  t.ok((await partitions()).includes('job_20250102'))
  await lock.commit()
  await maintained
  t.equal(await countKeys(), 1)
  t.notOk((await partitions()).includes('job_20250102'))
})

t.test('deleting a day reads each row of a key table once, and uses no index', async (t) => {
  const database = openDatabase({ url: await createDatabase(t), poolSize: 1 })
  t.teardown(() => database.close())
  const { query, maintain, createExpiredDay, addExpiredJobs } = setUpOn(database)
  await createExpiredDay()
  await addExpiredJobs(12_000)
  const read = async () => {
    await query('select pg_stat_force_next_flush()')
    return (
      await query(`
        select seq_tup_read::int as rows, idx_scan::int as "indexScans" from pg_stat_user_tables
        where relid = 'accepted.idempotency_key'::regclass`)
    )[0] as { rows: number; indexScans: number }
  }
  const before = await read()
  // This is the state after another worker has deleted some keys and then stopped.
  t.same(await query('select accepted.begin_expiry()::text as day'), [{ day: '2025-01-02' }])
  t.same(await query("select accepted.delete_keys_of_day('2025-01-02', 20) as more"), [{ more: true }])
  t.equal((await query('select from accepted.job')).length, 12_001)
  await maintain()
  const after = await read()
  t.equal(after.rows - before.rows, 12_002)
  t.equal(after.indexScans, before.indexScans)
  t.same(await query('select from accepted.expiry'), [])
})

t.test('when a worker stops during a deletion, the next run continues the deletion', async (t) => {
  const { database, query, partitions, maintain, warnings, createExpiredDay, addExpiredJobs } = await setUp(t)
  await createExpiredDay()
  await addExpiredJobs(12_000)
  const stopping = new AbortController()
  const lock = await lockLastKey(t, database)
  const maintained = maintain(stopping.signal)
  await until(async () => (await findBlockedBackends(query)).length > 0)
  stopping.abort()
  await lock.commit()
  await maintained
  t.ok((await partitions()).includes('job_20250102'))
  t.equal((await query('select from accepted.job')).length, 12_001)
  t.equal((await query('select from accepted.expiry')).length, 1)
  await maintain()
  t.notOk((await partitions()).includes('job_20250102'))
  t.same(warnings, [])
})

t.test('a run that starts while the worker is stopping deletes nothing', async (t) => {
  const { query, maintain, createExpiredDay } = await setUp(t)
  await createExpiredDay()
  await maintain(AbortSignal.abort())
  t.equal((await query('select from accepted.idempotency_key')).length, 2)
})

t.test('workers that delete expired days at the same time share the work, and no statement fails', async (t) => {
  const { query, partitions, maintain, warnings, createExpiredDay, addExpiredJobs } = await setUp(t)
  await createExpiredDay('20250101', 'early')
  await createExpiredDay()
  await addExpiredJobs(12_000)
  await createExpiredDay('20250103', 'other')
  await query(`
    create table deleted (count bigint);
    grant insert on deleted to accepted_owner;
    create function note_deleted() returns trigger language plpgsql as $$
    begin
      insert into public.deleted select count(*) from gone;
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
  const [counts] = await query('select sum(count)::int as all, max(count)::int as largest from deleted')
  t.equal(counts.all, 12_003)
  t.ok(counts.largest < 3_000, `the largest statement deleted ${counts.largest} keys`)
})

for (const step of ["accepted.delete_keys_of_day('2025-01-02', 10)", "accepted.delete_jobs_of_day('2025-01-02', 10)"]) {
  t.test(`${step} returns null while another transaction runs it`, async (t) => {
    const { database, query, createExpiredDay } = await setUp(t)
    await createExpiredDay()
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

t.test(
  'when the expiry of a job was changed by hand, its day is not dropped, but other days are dropped',
  async (t) => {
    const { query, partitions, maintain, createExpiredDay } = await setUp(t)
    await createExpiredDay()
    await query('select accepted.begin_expiry()')
    await query("update accepted.job set expires_at = now() + interval '1 day'")
    t.same(await query("select accepted.delete_jobs_of_day('2025-01-02', 10) as more"), [{ more: null }])
    t.ok((await partitions()).includes('job_20250102'))
    await createExpiredDay('20250103', 'other')
    await maintain()
    t.same(
      (await partitions()).filter((name) => name.startsWith('job_2025')),
      ['job_20250102'],
    )
  },
)

t.test('a detached partition is kept when the other jobs of its day are deleted', async (t) => {
  const { query, maintain, createExpiredDay } = await setUp(t)
  await createExpiredDay()
  await query('alter table accepted.job detach partition accepted.job_20250102')
  await query('insert into accepted.job select * from accepted.job_20250102')
  await maintain()
  t.same(await query('select from accepted.job'), [])
  t.equal((await query('select from accepted.job_20250102')).length, 1)
})

t.test('expired jobs in the default partition are deleted too, with their keys', async (t) => {
  const { query, maintain } = await setUp(t)
  await query(`
    insert into accepted.job (id, operation, status, principal, max_attempts, created_at, ended_at, expires_at)
      select accepted.uuid_floor(${day} + n * interval '1 s'), 'x', 'succeeded', 'ann', 1, ${day}, ${day}, ${day}
      from generate_series(1, 2500) as n;
    insert into accepted.job (id, operation, principal, max_attempts, expires_at)
      values (accepted.uuid_floor(${day} + interval '2 days'), 'x', 'ann', 1, ${day});
    insert into accepted.idempotency_key
      values ('ann', 'k', sha256('x'), accepted.uuid_floor(${day} + interval '9 s'));`)
  t.same(await query('select distinct tableoid::regclass::text as place from accepted.job'), [
    { place: 'accepted.job_default' },
  ])
  await maintain()
  t.same(await query('select status from accepted.job'), [{ status: 'queued' }])
  t.same(await query('select from accepted.idempotency_key'), [])
  t.same(await query('select from accepted.expiry'), [])
})
