import { readFile } from 'node:fs/promises'
import t from 'tap'
import { migrate } from '../../src/migrate/migrate.ts'
import { createDatabase, findBlockedBackends, queryOnce } from '../support/database.ts'
import { describeSchema, schemaFile } from '../support/schema.ts'
import { until } from '../support/until.ts'
import { messageOf, migrationsDirectory, openSession, runMigrate } from './support.ts'

/** Sets a parameter for all later sessions of a database. */
async function setInDatabase(url: string, name: string, value: string): Promise<void> {
  await queryOnce(url, `alter database ${new URL(url).pathname.slice(1)} set ${name} = ${value}`)
}

/** Settings that apply together. */
const rows: readonly Readonly<Record<string, string>>[] = [
  {
    ...{ datestyle: "'German, DMY'", intervalstyle: "'sql_standard'", timezone: "'Pacific/Kiritimati'" },
    ...{ standard_conforming_strings: 'off', search_path: "'none'", bytea_output: "'escape'" },
    ...{ default_transaction_isolation: "'serializable'", default_transaction_deferrable: 'on', lock_timeout: "'1ms'" },
    plan_cache_mode: "'force_generic_plan'",
  },
  {
    ...{ datestyle: "'SQL, DMY'", search_path: 'pg_temp, public, pg_catalog', array_nulls: 'off' },
    ...{ quote_all_identifiers: 'on', client_encoding: "'LATIN1'", check_function_bodies: 'off', lc_messages: "'C'" },
    ...{ statement_timeout: "'1s'", idle_session_timeout: "'1s'" },
    idle_in_transaction_session_timeout: "'1s'",
  },
]

for (const [index, settings] of rows.entries()) {
  t.test(
    `with other settings (${index + 1}), an empty database gets the same schema, and a second run has nothing to do`,
    async (t) => {
      const url = await createDatabase(t, { empty: true })
      for (const [name, value] of Object.entries(settings)) {
        t.comment(`${name} = ${value}`)
        await setInDatabase(url, name, value)
      }
      t.same(await runMigrate({ url }), ['0001_accepted'])
      t.same(await runMigrate({ url }), [])
      await queryOnce(url, `alter database ${new URL(url).pathname.slice(1)} reset all`)
      t.equal(await describeSchema(url), await readFile(schemaFile, 'utf8'))
    },
  )
}

t.test("the app's files use the search_path of the database or the role, and find its tables", async (t) => {
  const url = await createDatabase(t)
  const query = await openSession(t, url)
  await query('create schema shop')
  await query('delete from accepted.app_migration')
  await setInDatabase(url, 'search_path', 'shop')
  const appMigrations = await migrationsDirectory(t, { '0001_order.sql': 'create table customer_order (id integer);' })
  await migrate({ url, appMigrations })
  t.same(await query("select to_regclass('shop.customer_order') is not null as there"), [{ there: true }])
})

t.test('the timeouts of the database end neither a long statement nor a wait for a lock', async (t) => {
  const url = await createDatabase(t)
  const query = await openSession(t, url)
  const holder = await openSession(t, url)
  await query('create table thing (id integer)')
  await query('delete from accepted.app_migration')
  for (const name of ['lock_timeout', 'statement_timeout', 'idle_session_timeout'])
    await setInDatabase(url, name, "'1s'")
  await setInDatabase(url, 'idle_in_transaction_session_timeout', "'1s'")
  const [{ version }] = await query("select current_setting('server_version_num')::integer as version")
  if (version >= 170_000) await setInDatabase(url, 'transaction_timeout', "'1s'")
  const appMigrations = await migrationsDirectory(t, {
    '0001_slow.sql': 'select pg_sleep(1.2);',
    '0002_locked.sql': 'alter table thing add column name text;',
  })
  await holder('begin')
  await holder('lock table thing')
  const migrated = runMigrate({ url, appMigrations })
  const isBlocked = async () => (await findBlockedBackends(query, 'alter table thing%')).length > 0
  await until(isBlocked)
  await query('select pg_sleep(1.2)')
  t.ok(await isBlocked())
  await holder('commit')
  t.same(await migrated, ['0001_slow', '0002_locked'])
})

t.test(
  'a migration waits for its turn however long another one takes, and says for which session it waits',
  async (t) => {
    const url = await createDatabase(t)
    await queryOnce(url, 'delete from accepted.app_migration')
    const gate = await openSession(t, url)
    await gate('select pg_advisory_lock(1)')
    for (const name of ['lock_timeout', 'statement_timeout', 'idle_session_timeout'])
      await setInDatabase(url, name, "'1s'")
    const appMigrations = await migrationsDirectory(t, { '0001_hold.sql': 'select pg_advisory_xact_lock(1);' })
    const first = runMigrate({ url, appMigrations })
    const findHolder = () => findBlockedBackends(gate, 'select pg_advisory_xact_lock(1)%')
    await until(async () => (await findHolder()).length > 0)
    const waiting = Promise.withResolvers<string>()
    const second = runMigrate({ url, appMigrations, onWait: waiting.resolve })
    const [holder] = await findHolder()
    t.equal(await waiting.promise, String(holder))
    await gate('select pg_sleep(1.2)')
    await gate('select pg_advisory_unlock(1)')
    t.same(await Promise.all([first, second]), [['0001_hold'], []])
  },
)

t.test('when its session is ended, a migration rejects with one sentence that says what to do', async (t) => {
  const url = await createDatabase(t)
  const query = await openSession(t, url)
  await query('delete from accepted.app_migration')
  const appMigrations = await migrationsDirectory(t, {
    '0001_todos.sql': 'select 1;',
    '0002_ended.sql': 'select pg_terminate_backend(pg_backend_pid());',
  })
  const sentence = /^The connection to Postgres was lost.* Run `accepted migrate` again: it continues after .*\.$/
  const duringFile = await messageOf(migrate({ url, appMigrations }))
  t.match(duringFile, sentence)
  t.match(duringFile, '0002_ended.sql')
  t.same(await query('select name from accepted.app_migration'), [{ name: '0001_todos' }])

  // The session is idle between two looks at the lock.
  await query('select pg_advisory_lock(7226853417)')
  const waiting = Promise.withResolvers<void>()
  const whileWaiting = messageOf(migrate({ url, onWait: () => waiting.resolve() }))
  await waiting.promise
  await query(
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'accepted migrate'",
  )
  t.match(await whileWaiting, sentence)
})
