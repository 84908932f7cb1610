import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { type MigrationStep, migrate, printMigration } from '../../src/migrate/migrate.ts'
import { createDatabase, findBlockedBackends, queryOnce } from '../support/database.ts'
import { describeSchema } from '../support/schema.ts'
import { until } from '../support/until.ts'
import { messageOf, migrationsDirectory, openSession, runMigrate } from './support.ts'

t.test('concurrent runs on an empty database all succeed, and each migration runs once', async (t) => {
  const url = await createDatabase(t, { empty: true })
  const appMigrations = await migrationsDirectory(t, { '0001_first.sql': 'create table only_once (id integer);' })
  const steps: MigrationStep[] = []
  const run = () => migrate({ url, appMigrations, onStep: (step) => steps.push(step) })
  await Promise.all([run(), run(), run(), run()])
  t.same(steps, [
    { source: 'accepted', name: '0001_accepted' },
    { source: 'app', name: '0001_first' },
  ])
  const query = await openSession(t, url)
  t.same(await query('select version > 0 as installed from accepted_queue.version'), [{ installed: true }])
  t.same(await query("select to_regclass('public.only_once') is not null as there"), [{ there: true }])
  t.same(await query('select name from accepted.app_migration'), [{ name: '0001_first' }])
})

t.test('a failed migration is rolled back; the ones before it stay applied, and only those are reported', async (t) => {
  const url = await createDatabase(t, { empty: true })
  const appMigrations = await migrationsDirectory(t, {
    '0001_todos.sql': 'create table first (id integer);',
    '0002_broken.sql': 'create table half (id integer); select no_such_function();',
    '0003_last.sql': 'create table last (id integer);',
  })
  const reported: string[] = []
  const failed = migrate({ url, appMigrations, onStep: ({ name }) => reported.push(name) })
  t.match(await messageOf(failed), /0002_broken\.sql failed: .*no_such_function/)
  t.same(reported, ['0001_accepted', '0001_todos'])
  const query = await openSession(t, url)
  const tables = () =>
    query("select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' order by 1")
  t.same(await tables(), [{ relname: 'first' }])
  await writeFile(join(appMigrations, '0002_broken.sql'), 'create table whole (id integer);')
  t.same(await runMigrate({ url, appMigrations }), ['0002_broken', '0003_last'])
  t.same(await tables(), [{ relname: 'first' }, { relname: 'last' }, { relname: 'whole' }])
})

t.test('the error of a migration names the file, the line and the column', async (t) => {
  const url = await createDatabase(t)
  for (const [text, place] of [
    // Postgres gives the position of these errors.
    ['create table a (id integer);\n\nselect\n  no_such_function();', 'line 4, column 3'],
    ["-- Smörgås 🍰\nselect 1;\nselect 1 '🍰';\n", 'line 3, column 10'],
    ["select 'ü🍰', missing", 'line 1, column 14'],
    // Postgres gives no position for these. The statement starts here.
    ['create table b (id integer);\n\n-- again\ncreate table b (id integer);', 'line 4, column 1'],
    ['create table c (id integer check (id > 0));\ninsert into c values (1);\ninsert into c values (-1);', 'line 3'],
    [
      "do $$\nbegin\n  raise exception 'no;\nnot this';\nend $$;",
      'line 1, column 1. PL/pgSQL function inline_code_block line 3',
    ],
  ] as const) {
    const appMigrations = await migrationsDirectory(t, { '0001_todos.sql': '', '0002_broken.sql': text })
    await queryOnce(url, 'delete from accepted.app_migration')
    const message = await messageOf(migrate({ url, appMigrations }))
    t.match(message, `Migration ${join(appMigrations, '0002_broken.sql')} failed: `)
    t.match(message, `, at ${place}`)
    t.notMatch(message, '\n')
  }
})

t.test(
  'a file without a transaction runs statement by statement; after an error, it runs again as a whole',
  async (t) => {
    const url = await createDatabase(t)
    const appMigrations = await migrationsDirectory(t, {
      '0001_todos.sql': 'create table thing (id integer); insert into thing values (1), (1)',
      '0002_index.sql': `
-- Adds indexes while the app runs.
-- accepted: no transaction
create index concurrently if not exists thing_id_idx on thing (id); -- first
create unique index concurrently thing_id_key on thing (id)`,
    })
    await queryOnce(url, 'delete from accepted.app_migration')
    const message = await messageOf(migrate({ url, appMigrations }))
    t.match(message, /0002_index\.sql failed: .*thing_id_key.*, at line 5, column 1\..*without a transaction/)
    const query = await openSession(t, url)
    t.same(await query("select indisvalid from pg_index where indexrelid = to_regclass('thing_id_idx')"), [
      { indisvalid: true },
    ])
    await query('drop index thing_id_key')
    await query('truncate thing')
    t.same(await runMigrate({ url, appMigrations }), ['0002_index'])
    t.same(await query("select indisvalid from pg_index where indexrelid = to_regclass('thing_id_key')"), [
      { indisvalid: true },
    ])
  },
)

t.test('an index that is built concurrently does not wait for another migration that waits for its turn', async (t) => {
  const url = await createDatabase(t)
  const appMigrations = await migrationsDirectory(t, {
    '0001_todos.sql': 'create table thing (id integer);',
    '0002_index.sql': '-- accepted: no transaction\ncreate index concurrently thing_id_idx on thing (id);',
  })
  await queryOnce(url, 'delete from accepted.app_migration')
  await runMigrate({
    url,
    appMigrations: await migrationsDirectory(t, { '0001_todos.sql': 'create table thing (id integer);' }),
  })
  const writer = await openSession(t, url)
  const observer = await openSession(t, url)
  await writer('begin')
  await writer('insert into thing values (1)')
  const first = runMigrate({ url, appMigrations })
  await until(async () => (await findBlockedBackends(observer, 'create index concurrently%')).length > 0)
  const waiting = Promise.withResolvers<string>()
  const second = runMigrate({ url, appMigrations, onWait: waiting.resolve })
  const [migrating] = await findBlockedBackends(observer, 'create index concurrently%')
  t.equal(await waiting.promise, String(migrating))
  await writer('commit')
  t.same(await Promise.all([first, second]), [['0002_index'], []])
})

t.test('each file starts with the settings of its role, whatever the file before it has set', async (t) => {
  const url = await createDatabase(t)
  await queryOnce(url, 'delete from accepted.app_migration')
  const appMigrations = await migrationsDirectory(t, {
    '0001_dump.sql': `
      select pg_catalog.set_config('search_path', '', false);
      set standard_conforming_strings = off;
      set statement_timeout = '500ms';
      set role pg_monitor;`,
    '0002_next.sql': String.raw`create table path as select 'C:\temp' as text, current_user as role from pg_sleep(0.7);`,
  })
  await migrate({ url, appMigrations })
  const query = await openSession(t, url)
  t.same(await query('select text, role = session_user as is_own from public.path'), [
    { text: String.raw`C:\temp`, is_own: true },
  ])
})

t.test('files that are not migrations are ignored', async (t) => {
  const url = await createDatabase(t)
  const appMigrations = await migrationsDirectory(t, { '0001_todos.sql': '', 'notes.sql': 'nonsense', 'README.md': '' })
  await queryOnce(url, 'delete from accepted.app_migration')
  t.same(await runMigrate({ url, appMigrations }), ['0001_todos'])
})

t.test('a byte order mark and the line ends of Windows make no difference', async (t) => {
  const url = await createDatabase(t)
  await queryOnce(url, 'delete from accepted.app_migration')
  const withMark = await migrationsDirectory(t, { '0001_todos.sql': '\uFEFFcreate table thing\r\n(id integer);\r\n' })
  const without = await migrationsDirectory(t, { '0001_todos.sql': 'create table thing\n(id integer);\n' })
  t.same(await runMigrate({ url, appMigrations: withMark }), ['0001_todos'])
  t.same(await runMigrate({ url, appMigrations: without }), [])
})

t.test('when the queue had to be installed again, a run creates what a backup without its schema lacks', async (t) => {
  const url = await createDatabase(t)
  const before = await describeSchema(url)
  await queryOnce(url, 'drop schema accepted_queue cascade')
  t.match(await printMigration({ url }), /create view accepted\.backlog/)
  t.same(await runMigrate({ url }), [])
  t.equal(await describeSchema(url), before)
  t.same(await runMigrate({ url }), [])
})

t.test('when the queue had to be installed again, a run still names a table that is missing', async (t) => {
  const url = await createDatabase(t)
  await queryOnce(url, 'drop schema accepted_queue cascade; drop table accepted.run_time')
  t.match(await messageOf(migrate({ url })), /^Parts of the schema are missing .*: table accepted\.run_time\. Create/)
})
