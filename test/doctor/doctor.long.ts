import { join } from 'node:path'
import t from 'tap'
import { openDatabase } from '../../src/db/database.ts'
import { judgeVersion } from '../../src/doctor/server.ts'
import { createRole, recreateDatabase } from '../db/odd-database.ts'
import { createDatabase, openTestDatabase, queryOnce } from '../support/database.ts'
import { type Condition, checkCondition, codesOf, findings, findingsAt, ownRoles } from './support.ts'

const root = join(import.meta.dirname, '../..')

/** The URL of the same database for another role. */
function asRole(url: string, role: string): string {
  const changed = new URL(url)
  changed.username = role
  changed.password = 'secret'
  return changed.href
}

t.test('on a fresh system, nothing is found, whatever the role may read', async (t) => {
  const { options } = await openTestDatabase(t)
  t.same(await findingsAt({ url: options.url }, { appMigrations: join(root, 'examples/todos/migrations') }), [])
  for (const group of ['accepted_owner', 'accepted_api', 'accepted_worker', 'accepted_reader', 'accepted_operator']) {
    const role = await createRole(t, options.url)
    await queryOnce(options.url, `grant ${group} to ${role}`)
    for (const grant of ['', `grant pg_monitor to ${role}`]) {
      if (grant) await queryOnce(options.url, grant)
      const found = await findingsAt({ url: asRole(options.url, role) })
      const hidden = found.flatMap(({ details }) => details?.hidden as string[])
      t.same(
        codesOf(found).filter((code) => code !== 'not-visible'),
        [],
        `${group} ${grant}`,
      )
      t.ok(found.length <= 1, 'one warning names all that is hidden')
      if (group === 'accepted_owner' && grant) t.same(hidden, [], 'the owner sees everything')
      if (group === 'accepted_reader') t.ok(hidden.includes('parts of the schema') && !hidden.includes('backlog'))
    }
  }
})

t.test('a database without the schema is an error', async (t) => {
  const empty = await createDatabase(t, { empty: true })
  await t.rejects(findingsAt({ url: empty }), { message: /run `accepted migrate` first/ })
  const latin = await recreateDatabase(t, "encoding 'LATIN1' locale_provider libc locale 'C'")
  t.match(await findingsAt({ url: latin }), [
    { code: 'wrong-encoding', severity: 'error', message: /LATIN1/, action: /encoding 'UTF8' template template0/ },
  ])
})

t.test('a server that is too old is an error, and one that is too new a warning', async (t) => {
  t.match(judgeVersion(140_012, '14.12'), [{ code: 'server-too-old', severity: 'error', message: /14\.12/ }])
  t.same(judgeVersion(150_000, '15.0'), [])
  t.same(judgeVersion(180_003, '18.3'), [])
  t.match(judgeVersion(190_000, '19.0'), [{ code: 'server-untested', severity: 'warning', message: /19\.0/ }])
})

t.test('settings that hurt are found, of the database and of roles', async (t) => {
  const url = await createDatabase(t)
  const name = new URL(url).pathname.slice(1)
  const [{ version }] = await queryOnce(url, "select current_setting('server_version_num')::int as version")
  for (const [setting, value, severity, message] of [
    ['synchronous_commit', 'off', 'error', /is off: .*202/],
    ['track_counts', 'off', 'error', /autovacuum/],
    ['track_activities', 'off', 'warning', /long transactions/],
    ['session_replication_role', 'replica', 'error', /no trigger fires/],
    ['default_transaction_read_only', 'on', 'error', /do not start/],
    ['lock_timeout', '100ms', 'warning', /is 100 ms/],
    ['statement_timeout', '3s', 'warning', /is 3 s/],
    ['idle_in_transaction_session_timeout', '1s', 'warning', /is 1 s/],
    ['idle_session_timeout', '20s', 'warning', /is 20 s/],
    ...(version >= 170_000 ? [['transaction_timeout', '9s', 'warning', /is 9 s/] as const] : []),
  ] as const) {
    await checkCondition(t, url, {
      make: `alter database ${name} set ${setting} = '${value}'`,
      ...{ code: `setting-${setting.replaceAll('_', '-')}`, severity, message },
      action: new RegExp(`alter database ${name} set ${setting} = '`),
    })
  }

  const role = await createRole(t, url)
  ownRoles.add(role)
  await queryOnce(url, `grant accepted_worker to ${role}`)
  await checkCondition(t, url, {
    // Only in this database: the tests of other files use the same server.
    make: `alter role ${role} in database ${name} set statement_timeout = '2s'`,
    ...{ code: 'setting-statement-timeout', severity: 'warning', message: new RegExp(`is 2 s for the role ${role}:`) },
    action: `alter role ${role} in database ${name} set statement_timeout = '0'`,
  })
  // The settings of a person's role do not concern the API and the workers.
  const person = await createRole(t, url)
  await queryOnce(
    url,
    `grant accepted_operator to ${person}; alter role ${person} in database ${name} set statement_timeout = '2s'`,
  )
  t.same(
    codesOf(await findingsAt({ url: asRole(url, person) })).filter((code) => code !== 'not-visible'),
    [],
  )
})

t.test('a schema that is not as the migrations made it is found, and the way out works', async (t) => {
  const url = await createDatabase(t)
  const appMigrations = join(root, 'examples/todos/migrations')
  const conditions: Condition[] = [
    {
      make: 'drop index accepted.job_parent_idx',
      ...{ code: 'schema-incomplete', message: /index accepted\.job_parent_idx/, action: /schema\.sql/ },
      end: 'create index job_parent_idx on accepted.job (parent) where parent is not null',
    },
    {
      make: 'alter table accepted.audit disable trigger audit_not_changed',
      ...{ code: 'trigger-disabled', message: /audit_not_changed on accepted\.audit/ },
      action: 'alter table accepted.audit enable trigger audit_not_changed',
    },
    {
      make: 'alter table accepted_queue.job_common enable replica trigger accepted_foreign_job',
      ...{ code: 'trigger-disabled', message: /accepted_foreign_job on accepted_queue\.job_common/ },
      action: 'alter table accepted_queue.job_common enable trigger accepted_foreign_job',
    },
    {
      make: "update pg_index set indisvalid = false where indexrelid = 'accepted.quarantine_operation_crashed_at_idx'::regclass",
      ...{ code: 'index-invalid', message: /no query uses it/ },
      action: 'reindex index concurrently accepted.quarantine_operation_crashed_at_idx',
    },
    {
      make: 'update accepted_queue.version set version = version - 1',
      ...{ code: 'queue-schema-version', message: /schema accepted_queue has version \d+ of pg-boss/, action: /./ },
      end: 'update accepted_queue.version set version = version + 1',
    },
    {
      make: "update accepted.migration set checksum = 'x' || checksum",
      ...{ code: 'migrations-changed', message: /0001_accepted ran with another text/, action: /Run the release/ },
      end: 'update accepted.migration set checksum = substr(checksum, 2)',
    },
    {
      make: "update accepted.app_migration set name = '0000_before' where name = '0001_todos'",
      ...{ code: 'app-migrations-changed', message: /0000_before/, action: /./, options: { appMigrations } },
      end: "update accepted.app_migration set name = '0001_todos' where name = '0000_before'",
    },
    {
      make: 'create table kept as table accepted.app_migration; delete from accepted.app_migration',
      ...{ code: 'app-migrations-pending', message: /0001_todos/, action: 'accepted migrate' },
      ...{ options: { appMigrations }, end: 'insert into accepted.app_migration table kept; drop table kept' },
    },
  ]
  for (const condition of conditions) await checkCondition(t, url, condition)

  await queryOnce(
    url,
    'revoke select on accepted.operation from accepted_worker; revoke execute on function accepted.cancel from accepted_operator',
  )
  t.match(await findingsAt({ url }), [
    {
      code: 'grant-missing',
      severity: 'error',
      message: /accepted_worker lacks .*: select on table accepted\.operation/,
    },
    { code: 'grant-missing', severity: 'error', message: /accepted_operator .* execute on function accepted\.cancel/ },
  ])
  await queryOnce(
    url,
    'grant select on accepted.operation to accepted_worker; grant execute on function accepted.cancel to accepted_operator',
  )
  const role = await createRole(t, url)
  await queryOnce(url, `grant usage on schema accepted to ${role}; grant insert on accepted.job to ${role}`)
  t.match(
    (await findingsAt({ url: asRole(url, role) })).filter(({ severity }) => severity === 'error'),
    [
      { code: 'grant-missing', message: new RegExp(`role ${role} .* which the API needs`) },
      { code: 'grant-missing', message: new RegExp(`role ${role} .* which the worker needs`) },
    ],
  )
})

t.test('a check that waits for a lock is reported, and the others run', async (t) => {
  const { options, pool } = await openTestDatabase(t)
  const database = openDatabase({ url: options.url, poolSize: 2 })
  const holder = await pool.connect()
  try {
    await holder.query('begin; lock table accepted.webhook_endpoint; update accepted.migration set name = name')
    const found = await findings(database)
    t.match(found, [{ code: 'check-timed-out', severity: 'warning', message: /webhook endpoints/ }])
    await holder.query('rollback')
    t.same(await findings(database), [])
  } finally {
    holder.release(true)
    await database.close()
  }
})
