import t, { type Test } from 'tap'
import { migrate } from '../../src/migrate/migrate.ts'
import { messageOf, runMigrate } from '../migrate/support.ts'
import { queryOnce } from '../support/database.ts'
import { checkEnqueue, checkMainFlow, createTables, startApi, startWorker } from './main-flow.ts'
import { createOddDatabase, createRole, type OddDatabase, origins } from './odd-database.ts'

/** Settings that apply together. */
type Settings = Readonly<Record<string, string>>

/** With each row, the main flow works: every answer is the same as without it. */
const harmless: readonly Settings[] = [
  // How values are written, and where names are looked up.
  {
    ...{
      datestyle: 'German, DMY',
      intervalstyle: 'iso_8601',
      timezone: 'Pacific/Kiritimati',
      client_encoding: 'LATIN1',
    },
    ...{ search_path: '', default_transaction_isolation: 'serializable', default_transaction_deferrable: 'on' },
  },
  {
    ...{
      datestyle: 'SQL, DMY',
      intervalstyle: 'sql_standard',
      timezone: 'America/St_Johns',
      client_encoding: 'WIN1252',
    },
    ...{ search_path: 'nowhere', default_transaction_isolation: 'repeatable read', synchronous_commit: 'off' },
  },
  {
    ...{ datestyle: 'SQL, MDY', intervalstyle: 'postgres_verbose', timezone: '<odd>100:30', client_encoding: 'SJIS' },
    ...{
      search_path: '"$user"',
      default_transaction_isolation: 'read uncommitted',
      synchronous_commit: 'remote_apply',
    },
  },
  {
    ...{ datestyle: 'Postgres, YMD', timezone: '-167:59', client_encoding: 'SQL_ASCII', extra_float_digits: '-15' },
    ...{ search_path: 'pg_temp, public, pg_catalog', plan_cache_mode: 'force_custom_plan' },
    client_min_messages: 'debug5',
  },
  {
    ...{ datestyle: 'ISO, DMY', bytea_output: 'escape', xmlbinary: 'hex', xmloption: 'document', lc_numeric: 'POSIX' },
    ...{ search_path: 'public, pg_catalog', plan_cache_mode: 'force_generic_plan', client_min_messages: 'error' },
  },
  // How statements are read.
  {
    ...{ standard_conforming_strings: 'off', escape_string_warning: 'off', backslash_quote: 'off', array_nulls: 'off' },
    ...{ transform_null_equals: 'on', quote_all_identifiers: 'on', row_security: 'off', check_function_bodies: 'off' },
  },
  // How long statements may take, and where and how tables are stored.
  {
    ...{ lock_timeout: '200ms', deadlock_timeout: '1ms', statement_timeout: '3s', transaction_timeout: '3s' },
    ...{ idle_session_timeout: '300ms', idle_in_transaction_session_timeout: '100ms' },
    ...{ default_tablespace: 'pg_default', temp_tablespaces: 'pg_default', default_toast_compression: 'lz4' },
    ...{ default_table_access_method: 'heap_of_test', commit_delay: '1000', timezone_abbreviations: 'India' },
  },
  // How statements are planned.
  {
    ...{ jit_above_cost: '0', jit_inline_above_cost: '0', jit_optimize_above_cost: '0' },
    ...{ enable_nestloop: 'off', enable_hashjoin: 'off', enable_mergejoin: 'off', enable_partition_pruning: 'off' },
    ...{ enable_partitionwise_join: 'on', enable_partitionwise_aggregate: 'on', geqo_threshold: '2', work_mem: '64kB' },
  },
  {
    ...{ enable_seqscan: 'off', enable_sort: 'off', enable_hashagg: 'off', enable_material: 'off' },
    // Postgres 16 has renamed the first.
    ...{ force_parallel_mode: 'on', debug_parallel_query: 'on', parallel_setup_cost: '0', parallel_tuple_cost: '0' },
    enable_memoize: 'off',
  },
  // What the server logs.
  {
    ...{ log_statement: 'all', log_min_messages: 'panic', lc_messages: 'de_DE.UTF-8' },
    ...{ enable_indexscan: 'off', enable_indexonlyscan: 'off', enable_bitmapscan: 'off', enable_tidscan: 'off' },
    application_name: `it's; "odd" %s`,
  },
]

/** node-postgres always sends its own value, so a plain client does not show the value of the database or the role. */
const sentByDriver = ['client_encoding']

/** Migrates twice, and runs the main flow. */
async function checkEverything(t: Test, { url, adminUrl }: OddDatabase) {
  t.same(await runMigrate({ url }), ['0001_accepted'])
  t.same(await runMigrate({ url }), [])
  await queryOnce(url, createTables)
  await startWorker(t, url)
  const api = await startApi(t, url)
  await checkMainFlow(t, api.url, adminUrl)
  return api
}

/**
 * Whether this server has a setting with this value. A setting may be of another version, and a server may lack a
 * library or a locale.
 */
async function isKnown({ adminUrl }: OddDatabase, name: string, value: string): Promise<boolean> {
  const [isUnknownValue, isUnknownName] = ['22023', '42704']
  try {
    await queryOnce(adminUrl, 'select set_config($1, $2, true)', [name, value])
    return true
  } catch (error) {
    const { code } = error as { code?: string }
    if (code === isUnknownValue || code === isUnknownName) return false
    throw error
  }
}

/** Applies the settings that the server knows, and checks that a plain client gets them. */
async function apply(t: Test, database: OddDatabase, settings: Settings, firstOrigin: number): Promise<void> {
  for (const [index, [name, value]] of Object.entries(settings).entries()) {
    if (!(await isKnown(database, name, value))) {
      t.comment(`this server has no setting ${name} = ${value}`)
      continue
    }
    const [{ context, setting: before }] = await queryOnce(database.url, readSetting, [name])
    // Only a superuser may set the others, so the URL cannot.
    const possible = origins.slice(0, context === 'user' ? 4 : 3)
    const origin = possible[(firstOrigin + index) % possible.length] as (typeof origins)[number]
    await database.set(origin, name, value)
    t.comment(`${name} = ${value} (${origin})`)
    const [{ setting }] = await queryOnce(database.url, readSetting, [name])
    if (!sentByDriver.includes(name)) t.not(setting, before, 'a plain client gets the value')
  }
}

const readSetting =
  'select context, setting from pg_catalog.pg_settings where pg_catalog.lower(name) operator(pg_catalog.=) $1'

const describe = (settings: Settings) =>
  Object.entries(settings)
    .map(([name, value]) => `${name} = ${value}`)
    .join(', ')

for (const [index, settings] of harmless.entries()) {
  t.test(`with ${describe(settings)}, every answer of the main flow is right`, async (t) => {
    const database = await createOddDatabase(t)
    if (settings.default_table_access_method) {
      await queryOnce(database.adminUrl, 'create access method heap_of_test type table handler heap_tableam_handler')
    }
    await apply(t, database, settings, index)
    const api = await checkEverything(t, database)
    await checkEnqueue(t, api, database.url)
  })
}

/** Objects with the names of those that Postgres and our schemas have. With any of them, an answer would be wrong. */
const shadows = `
  create schema shadow;
  create function shadow.now() returns timestamptz language sql as $$ select '2001-01-01'::timestamptz $$;
  create function shadow.statement_timestamp() returns timestamptz language sql as 'select shadow.now()';
  create function shadow.pg_backend_pid() returns integer language sql as 'select 1';
  create function shadow.set_config(text, text, boolean) returns text language sql as 'select null::text';
  create function shadow.current_setting(text) returns text language sql as $$ select 'shadow' $$;
  create function shadow.pg_notify(text, text) returns void language sql as 'select';
  create function shadow.gen_random_uuid() returns uuid language sql as 'select null::uuid';
  create function shadow.pg_try_advisory_lock(bigint) returns boolean language sql as 'select false';
  create function shadow.not_equal(text, text) returns boolean language sql as 'select null::boolean';
  create function shadow.not_equal(uuid, uuid) returns boolean language sql as 'select null::boolean';
  create operator shadow.= (function = shadow.not_equal, leftarg = text, rightarg = text);
  create operator shadow.= (function = shadow.not_equal, leftarg = uuid, rightarg = uuid);
  create operator shadow.<> (function = shadow.not_equal, leftarg = text, rightarg = text);
  create table shadow.job (id integer);
  create table shadow.queue (id integer);
  create table shadow.version (version integer);
  create table shadow.pg_class (relname integer);
  create table shadow.pg_settings (name integer);
  create type shadow.job_status as enum ('odd');
  grant usage on schema shadow to public`

t.test('with a search_path that hides objects of Postgres, every answer of the main flow is right', async (t) => {
  const database = await createOddDatabase(t)
  await queryOnce(database.adminUrl, shadows)
  await apply(t, database, { search_path: 'shadow, pg_catalog, public' }, 0)
  t.same(await queryOnce(database.url, 'select extract(year from now())::text as year'), [{ year: '2001' }])
  await checkEverything(t, database)
})

t.test('with a role that sets another role, the other role owns what is created', async (t) => {
  const database = await createOddDatabase(t)
  const group = await createRole(t, database.adminUrl)
  await queryOnce(database.adminUrl, `grant ${group} to ${database.role}`)
  await queryOnce(database.adminUrl, `alter database ${new URL(database.url).pathname.slice(1)} owner to ${group}`)
  await database.set('alter role', 'role', group)
  t.same(await queryOnce(database.url, 'select current_user'), [{ current_user: group }])
  const api = await checkEverything(t, database)
  await checkEnqueue(t, api, database.url)
  const readOwner = "select tableowner from pg_tables where schemaname = 'accepted' and tablename = 'job'"
  t.same(await queryOnce(database.adminUrl, readOwner), [{ tableowner: group }])
})

t.test('settings in PGOPTIONS and the other variables of libpq change no answer of the main flow', async (t) => {
  const variables = {
    PGOPTIONS: '-c datestyle=German -c array_nulls=off -c client_encoding=LATIN1 -c search_path=nowhere',
    ...{ PGCLIENTENCODING: 'LATIN1', PGCLIENT_ENCODING: 'LATIN1', PGDATESTYLE: 'German', PGTZ: 'Asia/Kathmandu' },
  }
  for (const [name, value] of Object.entries(variables)) {
    const before = process.env[name]
    process.env[name] = value
    t.teardown(() => {
      if (before === undefined) delete process.env[name]
      else process.env[name] = before
    })
  }
  const database = await createOddDatabase(t)
  t.same(await queryOnce(database.url, 'show datestyle'), [{ DateStyle: 'German, DMY' }])
  await checkEverything(t, database)
})

/** A setting with which nothing may start, and what each program says. */
const refused = [
  {
    ...{ name: 'session_replication_role', value: 'replica', migrate: undefined },
    start: /alter role … set session_replication_role = 'origin'/,
  },
  {
    ...{
      name: 'default_transaction_read_only',
      value: 'on',
      migrate: /^The database is read-only\. Set DATABASE_URL /,
    },
    start: /^The server in DATABASE_URL is read-only: use /,
  },
]

for (const row of refused) {
  t.test(`with ${row.name} = ${row.value}, the API and the worker refuse to start with one sentence`, async (t) => {
    const database = await createOddDatabase(t)
    await migrate({ url: database.url })
    await database.set('alter role', row.name, row.value)
    if (row.migrate) t.match(await messageOf(migrate(database)), row.migrate)
    else await migrate(database)
    for (const start of [startApi, startWorker]) {
      const error = await start(t, database.url).then(
        () => undefined,
        (error: Error) => error,
      )
      t.match(error, { name: 'ConfigError', message: row.start })
      t.notMatch(error?.message, '\n')
    }
  })
}
