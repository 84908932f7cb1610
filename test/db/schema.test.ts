import { readFile } from 'node:fs/promises'
import t from 'tap'
import { createDatabase, openTestDatabase } from '../support/database.ts'
import { describeSchema, schemaFile } from '../support/schema.ts'

t.test('migrations/schema.sql is what the migrations add up to; else run `npm run schema`', async (t) => {
  t.equal(await readFile(schemaFile, 'utf8'), await describeSchema(await createDatabase(t)))
})

t.test(
  'every table, view, column, function and index has a comment, and every constraint a name of ours',
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
    select p.proname from pg_proc p
    where p.pronamespace = 'accepted'::regnamespace and obj_description(p.oid, 'pg_proc') is null
    union all
    select c.relname from pg_class c
    where c.relnamespace = 'accepted'::regnamespace and c.relkind in ('i', 'I') and not c.relispartition
      and not exists (select from pg_constraint where conindid = c.oid) and obj_description(c.oid, 'pg_class') is null`)
    t.same(bare, [])
    const { rows: constraints } = await pool.query(`
    select conname from pg_constraint
    where connamespace = 'accepted'::regnamespace and contype in ('c', 'u', 'f') and conname ~ '_check[0-9]*$'`)
    t.same(constraints, [])
  },
)

t.test('a change of the status is a HOT update: only a BRIN index holds a column that changes', async (t) => {
  const { pool } = await openTestDatabase(t)
  const { rows } = await pool.query(`
    select distinct a.attname from pg_index i
    join pg_class c on c.oid = i.indexrelid join pg_am am on am.oid = c.relam and am.amname <> 'brin'
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey)
    where i.indrelid = 'accepted.job'::regclass`)
  t.same(rows.map(({ attname }) => attname).sort(), ['id', 'principal', 'retry_of'])
  const client = await pool.connect()
  t.teardown(() => client.release(true))
  await client.query(`
    begin;
    insert into accepted.job (id, operation, principal, max_attempts, expires_at)
    values (accepted.uuid_floor(now()), 'note.create', 'ann', 1, now());
    update accepted.job set state = 'running', sequence = 2, updated_at = clock_timestamp();`)
  const { rows: updates } = await client.query(`
    select pg_stat_get_xact_tuples_updated(tableoid)::int as updated,
      pg_stat_get_xact_tuples_hot_updated(tableoid)::int as hot
    from accepted.job`)
  t.same(updates, [{ updated: 1, hot: 1 }])
})

t.test('where jobs wait to be claimed, a vacuum does not rest', async (t) => {
  const { pool } = await openTestDatabase(t)
  await pool.query(`
    select pgboss.create_queue('note.create', '{"policy": "standard"}');
    insert into pgboss.job (name) values ('note.create')`)
  const { rows } = await pool.query('select reloptions from pgboss.job join pg_class on pg_class.oid = job.tableoid')
  t.same(rows, [{ reloptions: ['autovacuum_vacuum_cost_delay=0'] }])
})

t.test('ids sort by time: uuid_floor and uuid_time are inverse to the millisecond', async (t) => {
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
      .replace(/(.{8})/, '$1-')}-0000-0000-000000000000`,
  )
  t.equal(rows[0].at.toISOString(), at)
})

t.test('the views for people show a job and its backlog', async (t) => {
  const { pool } = await openTestDatabase(t)
  await pool.query(`
    select pgboss.create_queue('todo.create', '{"policy": "standard"}');
    insert into accepted.job (id, operation, principal, max_attempts, expires_at)
      select accepted.uuid_floor(now()), 'todo.create', 'ann', 4, now() + interval '7 days';
    insert into pgboss.job (id, name, start_after)
      select id, operation, case n when 1 then now() - interval '1 minute' else now() + interval '1 hour' end
      from accepted.job, generate_series(1, 1) n;
    insert into pgboss.job (name, start_after) values ('todo.create', now() + interval '1 hour')`)
  const { rows: overview } = await pool.query(
    'select operation, state, attempt, queue_state from accepted.job_overview',
  )
  t.same(overview, [{ operation: 'todo.create', state: 'queued', attempt: '0 of 4', queue_state: 'created' }])
  const { rows: backlog } = await pool.query(
    "select operation, ready, deferred, running, oldest > interval '59 seconds' as old from accepted.backlog",
  )
  t.same(backlog, [{ operation: 'todo.create', ready: '1', deferred: '1', running: '0', old: true }])
})
