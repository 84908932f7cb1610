import { readFile } from 'node:fs/promises'
import pg from 'pg'
import t, { type Test } from 'tap'
import { createDatabase, openTestDatabase } from '../support/database.ts'
import { describeSchema, schemaFile } from '../support/schema.ts'

/** Creates a database for the test, and a function that runs SQL in it. */
async function openSession(t: Test) {
  const url = await createDatabase(t)
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  t.teardown(() => client.end())
  return { url, run: (text: string) => client.query(text) }
}

t.test('migrations/schema.sql is up to date (if this test fails, run `npm run schema`)', async (t) => {
  t.equal(await readFile(schemaFile, 'utf8'), await describeSchema(await createDatabase(t)))
})

t.test('migrations/schema.sql is valid SQL and creates the schema that it describes', async (t) => {
  const { url, run } = await openSession(t)
  const text = await readFile(schemaFile, 'utf8')
  await run(`
    drop schema accepted cascade;
    drop index accepted_queue.accepted_turn_idx, accepted_queue.accepted_active_idx,
      accepted_queue.accepted_unsuccessful_idx, accepted_queue.accepted_delivery_idx,
      accepted_queue.accepted_limited_idx, accepted_queue.accepted_limited_active_idx;
    alter table accepted_queue.job_common reset (autovacuum_vacuum_cost_delay);
    create schema accepted`)
  await run(text)
  t.equal(await describeSchema(url), text)
})

t.test('describeSchema fails if its outline lacks an object, or lists an object that does not exist', async (t) => {
  const { url, run } = await openSession(t)
  await run('create table accepted.extra (id integer)')
  await t.rejects(describeSchema(url), { message: /Add .*: table accepted\.extra$/ })
  await run('drop table accepted.extra, accepted.run_time')
  await t.rejects(describeSchema(url), { message: /Remove .*: table accepted\.run_time$/ })
})

t.test(
  'every table, view, column, type, function and index has a comment, and no constraint has a generated name',
  async (t) => {
    const { pool } = await openTestDatabase(t)
    const { rows: bare } = await pool.query(`
    select c.relname as what from pg_class c
    where c.relnamespace = 'accepted'::regnamespace and c.relkind in ('r', 'p', 'v')
      and (not c.relispartition or c.relname = 'job_default') and obj_description(c.oid, 'pg_class') is null
    union all
    select c.relname || '.' || a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid
    where c.relnamespace = 'accepted'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition
      and a.attnum > 0 and not a.attisdropped and col_description(c.oid, a.attnum) is null
    union all
    select t.typname from pg_type t
    where t.typnamespace = 'accepted'::regnamespace and t.typtype = 'e' and obj_description(t.oid, 'pg_type') is null
    union all
    select p.proname from pg_proc p
    where p.pronamespace = 'accepted'::regnamespace and obj_description(p.oid, 'pg_proc') is null
    union all
    select c.relname from pg_class c
    where c.relkind in ('i', 'I') and not c.relispartition and obj_description(c.oid, 'pg_class') is null
      and not exists (select from pg_constraint where conindid = c.oid)
      and (
        c.relnamespace = 'accepted'::regnamespace
        or c.relnamespace = 'accepted_queue'::regnamespace and c.relname ~ '^accepted_'
      )`)
    t.same(bare, [])
    const { rows: constraints } = await pool.query(`
    select conname from pg_constraint
    where connamespace = 'accepted'::regnamespace and contype in ('c', 'u', 'f') and conname ~ '_check[0-9]*$'`)
    t.same(constraints, [])
  },
)

t.test('status updates are HOT updates, because only BRIN indexes contain columns that change', async (t) => {
  const { pool } = await openTestDatabase(t)
  const { rows } = await pool.query(`
    select distinct a.attname from pg_index i
    join pg_class c on c.oid = i.indexrelid join pg_am am on am.oid = c.relam and am.amname <> 'brin'
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey)
    where i.indrelid = 'accepted.job'::regclass`)
  t.same(rows.map(({ attname }) => attname).sort(), ['id', 'parent', 'principal', 'retry_of'])
  const client = await pool.connect()
  t.teardown(() => client.release(true))
  await client.query(`
    begin;
    insert into accepted.job (id, operation, principal, max_attempts, expires_at)
    values (accepted.uuid7(), 'note.create', 'ann', 1, now());
    update accepted.job set status = 'running', sequence = 2, updated_at = clock_timestamp();`)
  const { rows: updates } = await client.query(`
    select pg_stat_get_xact_tuples_updated(tableoid)::int as updated,
      pg_stat_get_xact_tuples_hot_updated(tableoid)::int as hot
    from accepted.job`)
  t.same(updates, [{ updated: 1, hot: 1 }])
})

t.test('autovacuum runs without delays on the table of queued jobs', async (t) => {
  const { pool } = await openTestDatabase(t)
  await pool.query(`
    select accepted_queue.create_queue('note.create', '{"policy": "standard"}');
    insert into accepted_queue.job (id, name, data)
      select id, 'note.create', jsonb_build_object('job', id) from accepted.uuid7() id`)
  const { rows } = await pool.query(
    'select reloptions from accepted_queue.job join pg_class on pg_class.oid = job.tableoid',
  )
  t.same(rows, [{ reloptions: ['autovacuum_vacuum_cost_delay=0'] }])
})

t.test('uuid_time returns the time that uuid_floor put into an id, to the millisecond', async (t) => {
  const { pool } = await openTestDatabase(t)
  const at = '2026-11-21T05:06:07.089Z'
  const { rows } = await pool.query(
    'select accepted.uuid_floor($1) as id, accepted.uuid_time(accepted.uuid_floor($1)) as at',
    [at],
  )
  t.equal(
    rows[0].id,
    `${Date.parse(at)
      .toString(16)
      .padStart(12, '0')
      .replace(/(.{8})/, '$1-')}-7000-8000-000000000000`,
  )
  t.equal(rows[0].at.toISOString(), at)
})
