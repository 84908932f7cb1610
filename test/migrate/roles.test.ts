/** Migrates as different roles. Roles belong to the whole cluster, so this file has a cluster of its own. */
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { getConstructionPlans } from 'pg-boss'
import t from 'tap'
import { openDatabase } from '../../src/db/database.ts'
import { startEmbeddedPostgres } from '../../src/embedded-postgres/server.ts'
import { findMissingGrants } from '../../src/migrate/assert-grants.ts'
import { roles } from '../../src/migrate/grants.ts'
import { migrate, printMigration } from '../../src/migrate/migrate.ts'
import { readPages, root } from '../docs/markdown.ts'
import { run } from '../support/command.ts'
import { queryOnce } from '../support/database.ts'
import { todosConfig } from '../support/program.ts'
import { messageOf, runMigrate } from './support.ts'

const directory = await mkdtemp(join(tmpdir(), 'accepted-roles-'))
// When root runs the tests, Postgres runs as another user. That user needs access.
await chmod(directory, 0o755)
const server = await startEmbeddedPostgres({ dataDir: directory, settings: { fsync: 'off' } })
t.teardown(async () => {
  await server.stop('immediate')
  await rm(directory, { recursive: true })
})

const blocks =
  readPages()
    .find(({ name }) => name === 'docs/roles.md')
    ?.blocks.map(({ text }) => text) ?? []

let count = 0

/** Creates a database. Returns a function that makes its URL for a role; the default is the superuser. */
async function createDatabase(): Promise<(role?: string) => string> {
  const name = `roles_${count++}`
  await queryOnce(server.url, `create database ${name}`)
  return (role) => {
    const url = new URL(server.url)
    url.pathname = `/${name}`
    if (role) Object.assign(url, { username: role, password: 'secret' })
    return url.href
  }
}

const createRole = (url: string, name: string, options = '') =>
  queryOnce(url, `create role ${name} login password 'secret' ${options}`)

const ownersOf = async (url: string) =>
  (
    await queryOnce(
      url,
      `select distinct rolname from pg_roles join (
        select nspowner as owner from pg_namespace where nspname ~ '^accepted'
        union all
        select relowner from pg_class where relnamespace::regnamespace::text ~ '^accepted'
        union all
        select proowner from pg_proc where pronamespace::regnamespace::text ~ '^accepted'
      ) object on object.owner = pg_roles.oid`,
    )
  ).map(({ rolname }) => rolname)

const groupRoles = async () =>
  (await queryOnce(server.url, "select rolname from pg_roles where rolname ~ '^accepted_' order by 1")).map(
    ({ rolname }) => rolname,
  )

const dropGroupRoles = async () => {
  for (const name of await groupRoles()) await queryOnce(server.url, `drop role ${name}`)
}

/** Migrates, and returns what it noted. */
async function notesOf(url: string): Promise<string[]> {
  const notes: string[] = []
  await migrate({ url, onNote: (note) => notes.push(note) })
  return notes
}

t.test('a role that may create schemas but no roles owns them, and is told how to get the roles', async (t) => {
  const url = await createDatabase()
  await createRole(url(), 'ordinary')
  await queryOnce(url(), `grant create on database ${new URL(url()).pathname.slice(1)} to ordinary`)
  const [note, ...others] = await notesOf(url('ordinary'))
  t.match(
    note,
    /^These roles do not exist, and ordinary may not create them: accepted_owner, .*`accepted migrate --roles` prints/,
  )
  t.same(others, [])
  t.same(await ownersOf(url()), ['ordinary'])
  t.same(await groupRoles(), [])
  t.match(await messageOf(migrate({ url: url('ordinary') })), 'no error')
})

t.test('a role for which a DBA has made the schemas needs no privilege on the database', async (t) => {
  const url = await createDatabase()
  await createRole(url(), 'tenant')
  await queryOnce(
    url(),
    'create schema accepted authorization tenant; create schema accepted_queue authorization tenant',
  )
  await notesOf(url('tenant'))
  t.same(await ownersOf(url()), ['tenant'])
  await createRole(url(), 'stranger')
  t.match(
    await messageOf(migrate({ url: url('stranger') })),
    'The schema accepted belongs to tenant, and stranger may not become that role. Run `accepted migrate` as tenant, or let a DBA run `grant tenant to stranger`.',
  )
  await queryOnce(url(), 'alter schema accepted_queue owner to stranger')
  t.match(
    await messageOf(migrate({ url: url() })),
    /^The schema accepted.* belongs to (tenant|stranger), but .* to one role: `alter schema/,
  )
})

t.test(
  'two databases of a cluster are migrated at once by superusers: both use the roles, and no superuser owns anything',
  async (t) => {
    const [first, second] = [await createDatabase(), await createDatabase()]
    t.same(await Promise.all([notesOf(first()), notesOf(second())]), [[], []])
    t.same(await groupRoles(), Object.values(roles).toSorted())
    for (const url of [first(), second()]) {
      t.same(await ownersOf(url), [roles.owner])
      t.equal(await printMigration({ url }), '')
    }
    const [{ reads }] = await queryOnce(
      first(),
      `select pg_has_role('${roles.operator}', '${roles.reader}', 'usage') as reads`,
    )
    t.ok(reads)
    for (const url of [first(), second()])
      await queryOnce(url, `drop owned by ${Object.values(roles).join(', ')} cascade`)
    await dropGroupRoles()
  },
)

t.test('the SQL of --dry-run lets a role with CREATEROLE create the roles, and migrate as their owner', async (t) => {
  const url = await createDatabase()
  await createRole(url(), 'manager', 'createrole')
  await queryOnce(url(), `grant create on database ${new URL(url()).pathname.slice(1)} to manager`)
  await queryOnce(url('manager'), await printMigration({ url: url('manager') }))
  t.same(await groupRoles(), Object.values(roles).toSorted())
  t.same(await ownersOf(url()), [roles.owner])
  t.same(await notesOf(url('manager')), [])
  t.equal(await printMigration({ url: url('manager') }), '')
  await queryOnce(url(), `drop owned by ${Object.values(roles).join(', ')} cascade`)
  await dropGroupRoles()
})

t.test(
  '--roles needs no database, and its SQL lets members of the owner migrate, who may not inherit its rights',
  async (t) => {
    const url = await createDatabase()
    const { code, out, err } = await run(['migrate', '--roles'], { DATABASE_URL: '' })
    t.same({ code, err }, { code: 0, err: '' })
    for (let time = 0; time < 2; time++) await queryOnce(url(), out)
    const [logins, , ofApp] = blocks
    await queryOnce(url(), logins as string)
    await queryOnce(
      url(),
      `grant ${roles.owner} to my_migrator with inherit false; grant create on schema public to my_migrator`,
    )
    const env = { DATABASE_URL: url('my_migrator') }
    const dry = await run(['migrate', '--config', todosConfig, '--dry-run'], env)
    t.match(dry, { code: 0, err: '' })
    await queryOnce(url('my_migrator'), dry.out)
    t.match(await run(['migrate', '--config', todosConfig], env), { code: 0, out: /already up to date/, err: '' })
    t.same(await ownersOf(url()), [roles.owner])
    const [{ owner }] = await queryOnce(
      url(),
      "select relowner::regrole::text as owner from pg_class where oid = 'todo'::regclass",
    )
    t.equal(owner, 'my_migrator', 'the files of the app run as the role of the connection')
    const example = await readFile(join(root, 'examples/todos/migrations/0001_todos.sql'), 'utf8')
    t.ok(example.endsWith(ofApp as string), 'the example grants its tables as docs/roles.md shows')
    for (const [login, group] of [
      ['my_api', 'api'],
      ['my_worker', 'worker'],
    ] as const) {
      const database = openDatabase({ url: url(login) })
      t.teardown(() => database.close())
      t.same(await findMissingGrants(database, group), [])
      t.same((await database.pool.query('select from todo')).rows, [])
    }
    for (const command of ['list', 'redrive']) {
      const config = command === 'list' ? [] : ['--config', todosConfig]
      t.match(await run(['jobs', command, ...config], { DATABASE_URL: url('ann') }), { code: 0, err: '' }, command)
    }
  },
)

const describePgBoss = `
  select 'relation' as kind, c.oid, relname::text as name, relfilenode as state, relacl::text as acl, relowner as owner
  from pg_class c where relnamespace = 'pgboss'::regnamespace
  union all
  select 'function', oid, proname, length(prosrc), proacl::text, proowner from pg_proc where pronamespace = 'pgboss'::regnamespace
  order by 1, 2`

for (const version of ['10', '12']) {
  t.test(`a pg-boss ${version} of the app in the schema pgboss stays as it is`, async (t) => {
    const url = await createDatabase()
    const plans =
      version === '12'
        ? getConstructionPlans('pgboss')
        : await readFile(join(import.meta.dirname, `fixtures/pgboss-${version}.sql`), 'utf8')
    await queryOnce(url(), plans)
    const before = await queryOnce(url(), describePgBoss)
    const versions = await queryOnce(url(), 'select * from pgboss.version')
    t.ok(before.length > 10)
    t.same(await runMigrate({ url: url() }), ['0001_accepted'])
    t.same(await queryOnce(url(), describePgBoss), before)
    t.same(await queryOnce(url(), 'select * from pgboss.version'), versions)
  })
}
