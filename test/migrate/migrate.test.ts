import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import t, { type Test } from 'tap'
import { type MigrationStep, migrate } from '../../src/migrate/migrate.ts'
import { createDatabase } from '../support/database.ts'

async function query(t: Test, url: string) {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  t.teardown(() => client.end())
  return async (text: string) => (await client.query(text)).rows
}

async function migrationsDirectory(t: Test, files: Record<string, string>): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'accepted-migrations-'))
  t.teardown(() => rm(directory, { recursive: true }))
  for (const [name, text] of Object.entries(files)) await writeFile(join(directory, name), text)
  return directory
}

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
  const rows = await query(t, url)
  t.same(await rows('select version > 0 as installed from accepted_queue.version'), [{ installed: true }])
  t.same(await rows("select to_regclass('public.only_once') is not null as there"), [{ there: true }])
})

t.test('a failed migration is rolled back, and the error names it; the corrected file can run', async (t) => {
  const url = await createDatabase(t)
  const appMigrations = await migrationsDirectory(t, {
    '0001_todos.sql': 'select 1;',
    '0002_broken.sql': 'create table half (id integer); select no_such_function();',
  })
  await t.rejects(migrate({ url, appMigrations }), { message: /0002_broken\.sql failed: .*no_such_function/ })
  const rows = await query(t, url)
  t.same(await rows("select to_regclass('public.half') as half"), [{ half: null }])
  await writeFile(join(appMigrations, '0002_broken.sql'), 'create table whole (id integer);')
  await migrate({ url, appMigrations })
  t.same(await rows("select to_regclass('public.whole') is not null as whole"), [{ whole: true }])
})

t.test('files that are not migrations are ignored', async (t) => {
  const url = await createDatabase(t)
  const appMigrations = await migrationsDirectory(t, { '0001_todos.sql': '', 'notes.sql': 'nonsense', 'README.md': '' })
  await t.resolves(migrate({ url, appMigrations }))
})
