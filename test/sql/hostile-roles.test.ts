import { randomBytes } from 'node:crypto'
import { defineOperation } from 'accepted'
import pg from 'pg'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { sqlstate } from '../../src/db/sqlstate.ts'
import { roles } from '../../src/migrate/privileges.ts'
import { openJobs } from '../support/jobs.ts'

const note = defineOperation({ name: 'note.create', input: Type.Object({ text: Type.String() }) })

/** What no reader and no operator may see. */
const secret = 'only-for-the-handler'

type GroupRole = Exclude<keyof typeof roles, 'owner'>

/** Creates a database with a job, and opens sessions of login roles that are members of our roles. */
async function setUp(t: Test) {
  const jobs = await openJobs(t, [note])
  const { query } = jobs
  const id = await jobs.add(note, { text: secret })
  await query('update accepted.job set result = $2 where id = $1', [id, JSON.stringify(secret)])
  await query(`insert into accepted.schedule (name, operation, expression, timezone)
    values ('daily', 'note.create', '@daily', 'UTC')`)
  return {
    id,
    query,
    async logIn(...groups: GroupRole[]) {
      const [name, password] = [`hostile_${randomBytes(6).toString('hex')}`, randomBytes(12).toString('hex')]
      await query(`create role ${name} login password '${password}' in role ${groups.map((group) => roles[group])}`)
      const url = new URL(jobs.database.options.url)
      Object.assign(url, { username: name, password })
      const client = new pg.Client({ connectionString: url.href })
      client.on('error', () => {})
      await client.connect()
      t.teardown(async () => {
        await client.end()
        await query(`drop owned by ${name}`)
        await query(`drop role ${name}`)
      })
      return { name, client }
    },
  }
}

const isDatabaseError = (error: unknown): error is pg.DatabaseError => error instanceof pg.DatabaseError

/** Runs a statement. Returns the error of Postgres, or undefined. */
const attempt = (client: pg.Client, text: string, values: unknown[] = []) =>
  client.query(text, values).then(
    () => undefined,
    (error) => {
      if (isDatabaseError(error)) return error
      throw error
    },
  )

/** Everything that a client learns from an error. */
const textOf = ({ message, detail, hint, where, internalQuery }: pg.DatabaseError) =>
  [message, detail, hint, where, internalQuery].join('\n')

t.test('no role takes the rights of another, leaves the triggers out, or reaches files and programs', async (t) => {
  const { logIn } = await setUp(t)
  for (const group of ['reader', 'operator', 'api', 'worker'] as const) {
    const { client } = await logIn(group)
    // Operators are readers too.
    const others = Object.entries(roles).filter(([name]) => name !== group && name !== 'reader')
    for (const statement of [
      ...others.map(([, role]) => `set role ${role}`),
      ...others.map(([, role]) => `grant ${role} to current_user`),
      'set session authorization postgres',
      "set session_replication_role = 'replica'",
      'alter table accepted.job disable trigger all',
      'drop trigger job_not_changed on accepted.job',
      'alter function accepted.cancel(uuid) security invoker',
      'create or replace function accepted.cancel(job_id uuid) returns accepted.job_status language sql as $$ select null $$',
      'create function accepted.mine() returns int language sql as $$ select 1 $$',
      'create function accepted_queue.mine() returns int language sql as $$ select 1 $$',
      'create trigger mine before insert on accepted.job execute function accepted.refuse_direct_change()',
      'create rule mine as on insert to accepted.job do instead nothing',
      'create policy mine on accepted.job using (true)',
      'alter table accepted.job owner to current_user',
      'create index on accepted.job ((1))',
      'alter default privileges for role accepted_owner grant all on tables to public',
      "copy accepted.job to program 'true'",
      "copy (select 1) to '/tmp/accepted'",
      "select pg_read_file('PG_VERSION')",
      "select lo_import('/etc/hostname')",
      'create extension dblink',
      'create event trigger mine on ddl_command_end execute function accepted.refuse_direct_change()',
      'truncate accepted.job',
    ]) {
      const error = await attempt(client, statement)
      t.ok(error, `${group}: ${statement}`)
      t.ok(
        [sqlstate.insufficientPrivilege, '42P17', '42809'].includes(error?.code ?? ''),
        `${group}: ${statement}: ${error?.message}`,
      )
    }
  }
})

t.test('objects of a role do not run with the rights of the owner, wherever its search_path leads', async (t) => {
  const { id, query, logIn } = await setUp(t)
  const { name, client } = await logIn('reader', 'operator')
  const schema = `${name}_schema`
  await query(`create schema ${schema} authorization ${name}`)
  t.teardown(() => query(`drop schema if exists ${schema} cascade`))
  const tables = await query(
    `select distinct relname from pg_class
    where relnamespace in ('accepted'::regnamespace, 'accepted_queue'::regnamespace) and relkind in ('r', 'p', 'v')`,
  )
  for (const { relname } of tables) {
    await client.query(`create temp table ${pg.escapeIdentifier(relname)} (id uuid, name text, operation text)`)
  }
  const caught = `begin raise exception 'ran as %', current_user; end`
  for (const target of ['pg_temp', schema]) {
    for (const signature of [
      ...['now() returns timestamptz', 'clock_timestamp() returns timestamptz', 'uuid7() returns uuid'],
      ...['lower(varchar) returns text', 'length(varchar) returns int'],
      ...[
        'format(varchar, varchar) returns text',
        'find_operation(text) returns text',
        'cancel_job(uuid) returns text',
      ],
      ...['equal(uuid, uuid) returns boolean', 'equal(text, varchar) returns boolean'],
    ]) {
      await client.query(`create function ${target}.${signature} language plpgsql as $$ ${caught} $$`)
    }
    await client.query(
      `create operator ${target}.= (leftarg = uuid, rightarg = uuid, function = ${target}.equal);
      create operator ${target}.= (leftarg = text, rightarg = varchar, function = ${target}.equal);
      create type ${target}.job_status as enum ('queued')`,
    )
  }
  await client.query(`set search_path = ${schema}, pg_temp, pg_catalog`)
  // The operators of this schema come before those of Postgres here, or the test would show nothing.
  t.equal((await attempt(client, 'select gen_random_uuid() = gen_random_uuid()'))?.message, `ran as ${name}`)
  for (const [statement, ...values] of [
    [`select accepted.enqueue('note.create', '{"text": "x"}', 'key')`],
    [`select accepted.enqueue_batch('[{"operation": "note.create", "payload": {"text": "x"}}]')`],
    [`select accepted.pause('note.create', 'reason')`],
    [`select accepted.resume('note.create')`],
    ['select accepted.reschedule($1, pg_catalog.now())', id],
    ['select accepted.prioritize($1, 5)', id],
    ['select accepted.cancel($1)', id],
    ['select accepted.retry($1)', id],
    ['select accepted.redrive()'],
    [`select accepted.pause_schedule('daily', 'reason')`],
    [`select accepted.resume_schedule('daily')`],
    [`select accepted.run_schedule('daily')`],
    [`select accepted.backfill_schedule('daily', pg_catalog.now() - '1 day'::pg_catalog.interval)`],
    ['select accepted.expire(pg_catalog.now())'],
    [`select accepted.forget('ann', true)`],
  ] as const) {
    t.equal((await attempt(client, statement, values))?.message, undefined, statement)
  }
  for (const { relname } of tables) {
    const { rowCount } = await client.query(`select from pg_temp.${pg.escapeIdentifier(relname)}`)
    t.equal(rowCount, 0, `nothing was written to the temporary table ${relname}`)
  }
})

t.test('nothing that a reader or an operator can read contains a payload, a result or a key', async (t) => {
  const { id, query, logIn } = await setUp(t)
  const { client } = await logIn('reader', 'operator')
  await query(`select accepted.enqueue('note.create', jsonb_build_object('text', $1::text), 'key')`, [secret])
  await client.query(
    `create function pg_temp.show(text) returns boolean language plpgsql cost 0.0000001 as $$
    begin raise notice '%', $1; return true; end $$`,
  )
  const notices: string[] = []
  client.on('notice', ({ message }) => notices.push(`${message}`))
  const readable = await query(
    `select c.oid::regclass::text as name, string_agg(quote_ident(attname), ', ') as columns
    from pg_class c join pg_attribute on attrelid = c.oid and attnum > 0 and not attisdropped
    where relkind in ('r', 'p', 'v', 'm') and relnamespace in ('accepted'::regnamespace, 'accepted_queue'::regnamespace)
      and has_column_privilege('${roles.reader}', c.oid, attnum, 'select') group by c.oid`,
  )
  t.ok(readable.length > 20)
  for (const { name, columns } of readable) {
    // A function that costs nothing runs before the conditions of a view, on rows that the view leaves out.
    const { rows } = await client.query(`select ${columns} from ${name} t where pg_temp.show(row(${columns})::text)`)
    t.notMatch(JSON.stringify(rows), secret, name)
  }
  t.ok(notices.some((notice) => notice.includes(id)))
  t.notMatch(notices.join('\n'), secret)
  for (const name of ['accepted.job', 'accepted_queue.job', 'accepted.api_key', 'accepted.idempotency_key']) {
    t.equal((await attempt(client, `select * from ${name}`))?.code, sqlstate.insufficientPrivilege, name)
  }
  const { rows } = await client.query(`select * from pg_stats where schemaname like 'accepted%'`)
  t.notMatch(JSON.stringify(rows), secret, 'statistics')
})

t.test('errors of the functions for operators do not show a payload', async (t) => {
  const { id, query, logIn } = await setUp(t)
  const { client } = await logIn('reader', 'operator')
  const functions = await query(
    `select p.oid::regproc::text as name, array(select format_type(type, null) from unnest(proargtypes) type) as types
    from pg_proc p where pronamespace = 'accepted'::regnamespace and has_function_privilege('${roles.operator}', p.oid, 'execute')`,
  )
  const values: Record<string, readonly (string | null)[]> = {
    uuid: [`'${id}'`, "'ffffffff-ffff-7fff-bfff-ffffffffffff'", null],
    text: ["'note.create'", "'ann'", "''", "repeat('x', 100000)", "E'\\n''\"; drop table accepted.job'", null],
    'text[]': ["'{note.create}'", null],
    integer: ['2147483647', '-2147483648', '0', null],
    bigint: ['9223372036854775807'],
    jsonb: ['\'{"text": 1}\'', "'[]'", '\'[{"operation": "note.create", "payload": {}}]\'', null],
    boolean: ['true', 'false'],
    'timestamp with time zone': ["'infinity'", "'-infinity'", "'294276-12-31'", null],
    interval: ["'infinity'", "'-1 day'", null],
  }
  let errors = 0
  t.ok(functions.length > 10)
  for (const { name, types } of functions) {
    const choices = (types as string[]).map((type) => {
      if (!values[type]) throw new Error(`No values for ${type}, an argument of ${name}`)
      return values[type] as readonly (string | null)[]
    })
    const longest = Math.max(1, ...choices.map(({ length }) => length))
    // Each argument in turn takes each of its values while the others have their first.
    const calls = choices.flatMap((_, varied) =>
      Array.from({ length: longest }, (_, at) =>
        choices.map((some, index) => some[index === varied ? at : 0] ?? 'null'),
      ),
    )
    for (const call of calls) {
      await client.query('begin')
      const error = await attempt(client, `select ${name}(${call.join(', ')})`)
      await client.query('rollback')
      if (!error) continue
      errors += 1
      t.notMatch(textOf(error), secret, `${name}: ${error.message}`)
      t.not(error.code, 'XX000', `${name}: no internal error`)
    }
  }
  t.ok(errors > 10)
})
