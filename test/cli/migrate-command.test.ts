import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { migrationsDirectory, openSession } from '../migrate/support.ts'
import { run } from '../support/command.ts'
import { createDatabase, queryOnce } from '../support/database.ts'
import { todosConfig } from '../support/program.ts'
import { until } from '../support/until.ts'

/** Writes a configuration with migrations, and returns the arguments that select it. */
async function configure(t: Test, files: Record<string, string>): Promise<string[]> {
  const directory = await migrationsDirectory(t, files)
  const config = join(directory, 'accepted.config.mjs')
  await writeFile(config, "export default { operations: {}, handlers: './handlers.mjs', migrations: '.' }")
  return ['--config', config]
}

t.test('migrate --dry-run prints SQL that psql can run, and changes nothing', async (t) => {
  const DATABASE_URL = await createDatabase(t, { empty: true })
  const config = ['--config', todosConfig]
  const { code, out, err } = await run(['migrate', ...config, '--dry-run'], { DATABASE_URL })
  t.same({ code, err }, { code: 0, err: '' })
  for (const text of [
    'create schema accepted authorization accepted_owner;',
    'grant execute on function accepted.enqueue',
    'accepted_queue.version',
    'create table accepted.job (',
    'create table todo (',
  ]) {
    t.match(out, text)
  }
  t.same(await queryOnce(DATABASE_URL, "select nspname from pg_namespace where nspname ~ '^accepted'"), [])
  await queryOnce(DATABASE_URL, out)
  t.match(await run(['migrate', ...config], { DATABASE_URL }), {
    code: 0,
    out: 'The database is already up to date.\n',
  })
  t.match(await run(['migrate', ...config, '--dry-run'], { DATABASE_URL }), {
    code: 0,
    out: /^-- .*already up to date\.\n$/,
  })
  const operations = await queryOnce(
    DATABASE_URL,
    `select name, retry_limit from accepted.operation where name in ('batch', 'jobs.bulk', 'reminder.send') order by 1`,
  )
  t.same(operations, [
    { name: 'batch', retry_limit: 0 },
    { name: 'jobs.bulk', retry_limit: 3 },
    { name: 'reminder.send', retry_limit: 2 },
  ])
  const json = await run(['migrate', ...config, '--dry-run', '--json'], { DATABASE_URL })
  t.same(JSON.parse(json.out), { sql: '' })
})

t.test('migrate --dry-run does not wait for another migration', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const holder = await openSession(t, DATABASE_URL)
  await holder('select pg_advisory_lock(7226853417)')
  t.match(await run(['migrate', '--config', todosConfig, '--dry-run'], { DATABASE_URL }), { code: 0 })
})

t.test(
  'when a migration fails, migrate prints those that are committed, and one error line; it exits with 1',
  async (t) => {
    const files = {
      '0001_first.sql': 'create table first (id integer);',
      '0002_broken.sql': 'create table half ();\nselekt 1;',
    }
    const config = await configure(t, files)
    const text = await createDatabase(t, { empty: true })
    const failed = await run(['migrate', ...config], { DATABASE_URL: text })
    t.same({ code: failed.code, out: failed.out }, { code: 1, out: 'accepted 0001_accepted\napp      0001_first\n' })
    t.match(
      failed.err,
      /^error: Migration .*0002_broken\.sql failed: syntax error .*, at line 2, column 1\. Nothing .*\n$/,
    )
    const json = await createDatabase(t, { empty: true })
    const failedJson = await run(['migrate', ...config, '--json'], { DATABASE_URL: json })
    t.same(JSON.parse(failedJson.out), { migrations: ['0001_accepted', '0001_first'] })
    t.equal(failedJson.code, 1)
  },
)

t.test('when its session is ended, migrate exits with 1 and one error line', async (t) => {
  const DATABASE_URL = await createDatabase(t, { empty: true })
  const config = await configure(t, { '0001_end.sql': 'select pg_terminate_backend(pg_backend_pid());' })
  const { code, err } = await run(['migrate', ...config], { DATABASE_URL })
  t.equal(code, 1)
  t.match(err, /^error: The connection to Postgres was lost .*0001_end\.sql.* Run `accepted migrate` again.*\.\n$/)
})

t.test('while another process migrates, migrate says so and waits', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const holder = await openSession(t, DATABASE_URL)
  const [{ pid }] = await holder('select pg_advisory_lock(7226853417), pg_backend_pid() as pid')
  const waiting = run(['migrate', '--config', todosConfig], { DATABASE_URL })
  const attemptedAt = async () =>
    (
      await holder(`
        select query_start::text as at from pg_stat_activity
        where application_name = 'accepted migrate' and datname = current_database() and query like '%try_advisory%'`)
    )[0]?.at
  const first = await until(attemptedAt)
  // Before the second attempt, it has found out which session holds the lock.
  await until(async () => ![undefined, first].includes(await attemptedAt()))
  await holder('select pg_advisory_unlock(7226853417)')
  const { code, out, err } = await waiting
  t.same({ code, out }, { code: 0, out: 'The database is already up to date.\n' })
  t.match(err, new RegExp(`^Waiting for another migration, in the session with process id ${pid}…\n$`))
})
