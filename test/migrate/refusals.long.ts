import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { ConfigError } from '../../src/config.ts'
import { migrate } from '../../src/migrate/migrate.ts'
import { createDatabase, queryOnce } from '../support/database.ts'
import { migrationsDirectory, openSession, runMigrate } from './support.ts'

/** Checks that a run is refused with a message in one line that matches, and that it has changed nothing. */
async function refuses(t: Test, options: { url: string; appMigrations?: string }, message: RegExp): Promise<void> {
  const query = await openSession(t, options.url)
  const describe = () =>
    query(
      "select nspname, relname from pg_class c join pg_namespace n on n.oid = relnamespace where nspname !~ '^pg_' order by 1, 2",
    )
  const before = await describe()
  await t.rejects(migrate(options), { name: 'ConfigError', message })
  const error = await migrate(options).catch((error) => error)
  t.ok(error instanceof ConfigError)
  t.match(error.message, /^[A-Z][^\n]*\.$/)
  t.same(await describe(), before)
}

for (const encoding of ['LATIN1', 'SQL_ASCII', 'EUC_JP']) {
  t.test(`a database with the encoding ${encoding} is refused before anything is created`, async (t) => {
    const url = await createDatabase(t, { empty: true })
    const name = new URL(url).pathname.slice(1)
    const admin = new URL(url)
    admin.pathname = '/postgres'
    await queryOnce(admin.href, `drop database ${name}`)
    await queryOnce(
      admin.href,
      `create database ${name} encoding '${encoding}' locale_provider libc locale 'C' template template0`,
    )
    await refuses(
      t,
      { url },
      new RegExp(`^The database ${name} has the encoding ${encoding}, .*needs UTF8.*template0\\.$`),
    )
  })
}

t.test('a read-only database is refused', async (t) => {
  const url = await createDatabase(t, { empty: true })
  await queryOnce(url, `alter database ${new URL(url).pathname.slice(1)} set default_transaction_read_only = on`)
  await refuses(t, { url }, /^The database is read-only\. Set DATABASE_URL to the primary server, or /)
})

for (const [what, prepare, message] of [
  [
    'a schema accepted of another program',
    'create schema accepted; create table accepted.offer (id integer)',
    /^The schema accepted holds tables of another program.*\(offer\)\. Rename/,
  ],
  [
    'a schema accepted_queue of another program',
    'create schema accepted_queue; create table accepted_queue.job (id integer)',
    /^The schema accepted_queue holds tables of another program \(job\)\. Rename/,
  ],
  [
    'a schema accepted_queue with a table called version',
    'create schema accepted_queue; create table accepted_queue.version (version integer)',
    /^The schema accepted_queue holds tables of another program \(version\)/,
  ],
] as const) {
  t.test(`${what} is refused`, async (t) => {
    const url = await createDatabase(t, { empty: true })
    await queryOnce(url, prepare)
    await refuses(t, { url }, message)
  })
}

for (const [what, version, advice] of [
  ['an older', 30, 'Accepted did not install it'],
  ['a newer', 4_000, 'A newer release of Accepted'],
] as const) {
  t.test(`${what} version of pg-boss's schema is refused`, async (t) => {
    const url = await createDatabase(t)
    await queryOnce(url, `update accepted_queue.version set version = ${version}`)
    await refuses(t, { url }, new RegExp(`^The schema accepted_queue has version ${version} of pg-boss, .* ${advice}`))
  })
}

t.test('an app that has a pg-boss of its own, of any version, keeps it', async (t) => {
  const url = await createDatabase(t, { empty: true })
  await queryOnce(
    url,
    'create schema pgboss; create table pgboss.version (version integer); insert into pgboss.version values (9)',
  )
  t.same(await runMigrate({ url }), ['0001_accepted'])
  t.same(await queryOnce(url, 'select version from pgboss.version'), [{ version: 9 }])
})

t.test('files that have run must stay as they are, and new files come after them', async (t) => {
  const url = await createDatabase(t)
  await queryOnce(url, 'delete from accepted.app_migration')
  const appMigrations = await migrationsDirectory(t, { '0001_first.sql': 'select 1;', '0003_third.sql': 'select 3;' })
  t.same(await runMigrate({ url, appMigrations }), ['0001_first', '0003_third'])
  const change = (name: string, text: string) => writeFile(join(appMigrations, name), text)

  await change('0001_first.sql', 'select 2;')
  await refuses(
    t,
    { url, appMigrations },
    /^The migration .*0001_first\.sql has changed after it ran\. Undo the change, and /,
  )
  await change('0001_first.sql', 'select 1;')
  await change('0002_second.sql', 'select 2;')
  await refuses(
    t,
    { url, appMigrations },
    /0002_second\.sql comes before 0003_third, which has run already\. Give it a number/,
  )
  await rm(join(appMigrations, '0002_second.sql'))
  await rm(join(appMigrations, '0003_third.sql'))
  await refuses(t, { url, appMigrations }, /^The migration 0003_third has run already, but .* Restore the file\.$/)
  await change('0003_third.sql', 'select 3;')
  t.same(await runMigrate({ url, appMigrations }), [])
})

t.test(
  'a migration of Accepted that ran with another text, or that this release does not know, is refused',
  async (t) => {
    const url = await createDatabase(t)
    await queryOnce(url, "update accepted.migration set checksum = 'other'")
    await refuses(t, { url }, /^The migration 0001_accepted ran with another text/)
    await queryOnce(url, "update accepted.migration set name = '9999_later'")
    await refuses(t, { url }, /^A newer release of Accepted has migrated the database \(9999_later\)\. Run/)
  },
)

t.test('a file that is not encoded as UTF-8, and a directory that does not exist, are refused', async (t) => {
  const url = await createDatabase(t)
  const appMigrations = await migrationsDirectory(t, { '0001_latin.sql': Buffer.from("select 'Smörgås'", 'latin1') })
  await refuses(t, { url, appMigrations }, /0001_latin\.sql is not encoded as UTF-8\. Save it as UTF-8\.$/)
  await refuses(
    t,
    { url, appMigrations: join(appMigrations, 'none') },
    /none cannot be read \(ENOENT\)\. Correct `migrations`/,
  )
})

for (const [statement, part] of [
  ['drop table accepted.run_time', 'table accepted.run_time'],
  ['drop function accepted.claim', 'function accepted.claim'],
  ['drop view accepted.backlog', 'view accepted.backlog'],
  ['drop index accepted.job_principal_id_idx', 'index accepted.job_principal_id_idx'],
  ['drop index accepted_queue.accepted_active_idx', 'index accepted_queue.accepted_active_idx'],
  ['alter table accepted.processed_key drop column processed_at', 'column accepted.processed_key.processed_at'],
  ['alter table accepted.attempt drop constraint attempt_pkey', 'constraint accepted.attempt.attempt_pkey'],
  ['drop table accepted.job_default', 'table accepted.job_default'],
  ['drop table accepted_queue.warning', 'table accepted_queue.warning'],
  ['drop function accepted_queue.delete_queue', 'function accepted_queue.delete_queue'],
  ['alter table accepted_queue.queue drop column warning_queued', 'column accepted_queue.queue.warning_queued'],
  ['alter table accepted_queue.warning drop constraint warning_pkey', 'primary key of table accepted_queue.warning'],
  ['alter table accepted.job disable trigger job_updated', 'enabled trigger accepted.job.job_updated'],
  ['alter table accepted.job detach partition accepted.job_default', 'partition accepted.job_default of accepted.job'],
  ['delete from accepted.change_expiry', 'row of table accepted.change_expiry'],
] as const) {
  t.test(`after ${statement}, a run names what is missing`, async (t) => {
    const url = await createDatabase(t)
    await queryOnce(url, statement)
    const message = new RegExp(`^Parts of the schema are missing although all migrations have run: ${part}\\. Create`)
    await refuses(t, { url }, message)
  })
}

for (const table of ['accepted.migration', 'accepted.app_migration']) {
  t.test(`without the table ${table}, nothing runs`, async (t) => {
    const url = await createDatabase(t)
    await queryOnce(url, `drop table ${table}`)
    await refuses(t, { url }, new RegExp(`^The table ${table} is missing, .* Restore it from a backup\\.$`))
  })
}

t.test('a role that owns both schemas migrates without the privilege CREATE on the database', async (t) => {
  const url = await createDatabase(t, { empty: true })
  const database = new URL(url).pathname.slice(1)
  const role = `${database}_migrator`
  const query = await openSession(t, url)
  await query(`create role ${role} login password 'secret'`)
  t.teardown(async () => {
    await queryOnce(url, `drop owned by ${role}`)
    await queryOnce(url, `drop role ${role}`)
  })
  await query(`revoke create on database ${database} from public`)
  const asRole = new URL(url)
  asRole.username = role
  asRole.password = 'secret'
  await t.rejects(migrate({ url: asRole.href }), { message: /permission denied for database/ })
  await query(`create schema accepted authorization ${role}`)
  await query(`create schema accepted_queue authorization ${role}`)
  t.same(await runMigrate({ url: asRole.href }), ['0001_accepted'])
  t.same(await runMigrate({ url: asRole.href }), [])
  t.same(await query("select has_database_privilege($1, current_database(), 'create') as may", [role]), [
    { may: false },
  ])
})

t.test('schema.sql lists the parts that are looked for', async (t) => {
  const text = await readFile(new URL('../../migrations/schema.sql', import.meta.url), 'utf8')
  for (const kind of ['table', 'view', 'function', 'type', 'index']) t.match(text, new RegExp(`^create ${kind} `, 'm'))
})
