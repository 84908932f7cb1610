import { defineOperation } from 'accepted'
import { sql } from 'kysely'
import t from 'tap'
import Type from 'typebox'
import type { Database } from '../../src/db/database.ts'
import { errorCode, sqlstate } from '../../src/db/sqlstate.ts'
import { assertGrants } from '../../src/migrate/assert-grants.ts'
import { describeGrant, grants, roles } from '../../src/migrate/grants.ts'
import { run } from '../support/command.ts'
import { asRole, createDatabase, openTestDatabase, queryOnce } from '../support/database.ts'
import { openJobs } from '../support/jobs.ts'
import { freePort, todosConfig } from '../support/program.ts'
import { messageOf } from './support.ts'

/** Runs statements and a call in a transaction that is rolled back. The last statement usually sets a role. */
async function within<Result>(
  { kysely }: Pick<Database, 'kysely'>,
  statements: readonly string[],
  call: (trx: Pick<Database, 'kysely'>) => Promise<Result>,
): Promise<Result> {
  const trx = await kysely.startTransaction().execute()
  try {
    for (const statement of statements) await sql.raw(statement).execute(trx)
    return await call({ kysely: trx })
  } finally {
    await trx.rollback().execute()
  }
}

const loginRoles = { api: 'accepted_test_api', worker: 'accepted_test_worker' } as const

t.test(
  'without any one privilege of its list, the API or the worker does not start, and says what is missing',
  async (t) => {
    const database = await openTestDatabase(t)
    for (const process of ['api', 'worker'] as const) {
      const check = (trx: Pick<Database, 'kysely'>) => messageOf(assertGrants(trx, process))
      const login = `set local role ${loginRoles[process]}`
      t.equal(await within(database, [login], check), 'no error')
      for (const grant of grants.filter(({ role }) => role === process)) {
        const what = describeGrant(grant)
        t.equal(
          await within(database, [`revoke ${what} from ${roles[process]}`, login], check),
          `The role ${loginRoles[process]} in DATABASE_URL lacks the privilege ${what}, which ${process === 'api' ? 'the API' : 'the worker'} needs: run \`accepted migrate\`, which grants it to ${roles[process]}.`,
        )
      }
      const stranger = ['create role stranger', 'set local role stranger']
      t.match(await within(database, stranger, check), `let a DBA run \`grant ${roles[process]} to stranger\`.`)
      t.match(
        await within(database, [`alter role ${roles[process]} rename to other`, ...stranger], check),
        'let a DBA run the SQL that `accepted migrate --roles` prints, then run `accepted migrate`, and then `grant',
      )
      t.equal(await within(database, [`set local role ${roles.owner}`], check), 'no error')
    }
  },
)

t.test('API and worker exit with one sentence when a privilege is missing, and migrate grants it again', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  await queryOnce(
    DATABASE_URL,
    `revoke insert on accepted.job from ${roles.api}; revoke execute on function accepted.claim from ${roles.worker};
    grant execute on function accepted.claim to public`,
  )
  const start = async (command: string) =>
    run([command, '--config', todosConfig], {
      DATABASE_URL,
      LOG_LEVEL: 'fatal',
      ...{ PORT: String(await freePort()), WORKER_PORT: String(await freePort()) },
    })
  t.match(await start('api'), {
    code: 1,
    err: /^error: The role accepted_test_api in DATABASE_URL lacks the privilege insert on table accepted\.job, .*\n$/,
  })
  await queryOnce(DATABASE_URL, 'revoke execute on function accepted.claim from public')
  t.match(await start('worker'), {
    code: 1,
    err: /^error: The role accepted_test_worker in DATABASE_URL lacks .* execute on function accepted\.claim, .*\n$/,
  })
  await queryOnce(DATABASE_URL, 'grant execute on function accepted.forget to public')
  t.match(await start('migrate'), {
    code: 0,
    out: 'The database is already up to date.\n',
    err: /^Privileges .* missing/,
  })
  const [{ missing }] = await queryOnce(
    DATABASE_URL,
    `select array_remove(array[
      case when not has_table_privilege('${roles.api}', 'accepted.job', 'insert') then 'insert' end,
      case when not has_function_privilege('${roles.worker}', 'accepted.claim'::regproc, 'execute') then 'claim' end,
      case when has_function_privilege('${roles.api}', 'accepted.forget'::regproc, 'execute') then 'forget' end
    ], null) as missing`,
  )
  t.same(missing, [])
})

const job = "'01900000-0000-7000-8000-000000000001'"
const change = 'percent = 1'

/** Statements that Postgres refuses to each role. */
const refused: Readonly<Record<Exclude<keyof typeof roles, 'owner'>, readonly string[]>> = {
  api: [
    "select accepted.claim('note.create', 1, '-infinity')",
    "update accepted_queue.job set state = 'active'",
    'delete from accepted_queue.job',
    `update accepted.job set ${change}`,
    'select from accepted.job for update',
    'delete from accepted.job',
    'truncate accepted.job',
    'select from accepted.job_default',
    'select secrets from accepted.webhook_endpoint',
    'select * from accepted.webhook_endpoint',
    "update accepted.webhook_endpoint set url = 'http://a'",
    'insert into accepted.processed_key default values',
    'delete from accepted.api_key',
    'update accepted.api_key set scopes = null',
    'select from accepted.audit',
    "select accepted.record_action('cancel', 'x')",
    `select accepted.insert_job(${job}, 'note.create', '{}', 'ann')`,
    "select accepted.pause('note.create')",
    "select accepted.forget('ann')",
    'select accepted.create_job_partitions()',
    'create table accepted.mine ()',
    'create table accepted_queue.mine ()',
    'create schema mine',
    'select from pgboss.job',
  ],
  worker: [
    'select from accepted.api_key',
    'select from accepted.idempotency_key',
    'select from accepted.change',
    'select from accepted.audit',
    "select accepted.record_action('cancel', 'x')",
    'delete from accepted.job',
    'truncate accepted.job',
    'select from accepted.job_default',
    'update accepted.operation set paused_at = null',
    "update accepted.webhook_endpoint set secrets = '{a}'",
    'insert into accepted.webhook_endpoint default values',
    "select accepted.forget('ann')",
    'create table accepted.mine ()',
    'create table accepted_queue.mine ()',
    'create schema mine',
    'select from pgboss.job',
  ],
  reader: [
    'select payload from accepted.job',
    'select result from accepted.job',
    'select * from accepted.job',
    'select fingerprint from accepted.idempotency_key',
    'select hash from accepted.api_key',
    'select secrets from accepted.webhook_endpoint',
    'select from accepted_queue.job',
    `update accepted.job set ${change}`,
    'select from accepted.job for update',
    'delete from accepted.job',
    "select accepted.enqueue('note.create')",
    `select accepted.cancel(${job})`,
    "select accepted.pause('note.create')",
    'update accepted.schedule set paused = true',
    "select accepted.run_schedule('x')",
    "select accepted.backfill_schedule('x', now() - interval '1 day')",
    'delete from accepted.audit',
    'create table accepted.mine ()',
    'select from pgboss.job',
  ],
  operator: [
    'select payload from accepted.job',
    'select fingerprint from accepted.idempotency_key',
    'select hash from accepted.api_key',
    'select secrets from accepted.webhook_endpoint',
    'select from accepted_queue.job',
    "update accepted.operation set paused_reason = 'x'",
    "update accepted.schedule set expression = '* * * * *'",
    "insert into accepted.schedule_request (id, schedule) values (gen_random_uuid(), 'x')",
    'insert into accepted.audit default values',
    "select accepted.record_action('cancel', 'x')",
    "select accepted.claim('note.create', 1, '-infinity')",
    'select accepted.create_job_partitions()',
    'truncate accepted.job',
    'update accepted.job_default set percent = 1',
    'create table accepted.mine ()',
    'select from pgboss.job',
  ],
}

/** What an operator reads instead of the direct change that it tries. */
const sentences: Readonly<Record<string, RegExp>> = {
  [`update accepted.job set ${change}`]: /accepted\.cancel.*accepted\.retry.*accepted\.reschedule/,
  "update accepted.job set status = 'succeeded'": /accepted\.cancel.*accepted\.retry/,
  'delete from accepted.job': /accepted\.cancel.*accepted\.expire.*accepted\.forget/,
  [`insert into accepted.job (id) values (${job})`]: /accepted\.enqueue/,
  "insert into accepted_queue.job (name, data) values ('note.create', '{}')": /accepted\.enqueue/,
}

const operation = defineOperation({ name: 'note.create', summary: 'Create a note', input: Type.Object({}) })

t.test('each role is refused what is not its own, and what it may do is not refused', async (t) => {
  const { database, query, add } = await openJobs(t, [operation])
  await query('create schema pgboss create table job ()')
  await add(operation, {})
  const attempt = (role: string, statement: string) =>
    within(database, [`set local role ${role}`], ({ kysely }) =>
      sql
        .raw(statement)
        .execute(kysely)
        .then(
          () => undefined,
          (error) => error,
        ),
    )
  for (const [role, statements] of Object.entries(refused)) {
    for (const statement of statements) {
      const error = await attempt(roles[role as keyof typeof roles], statement)
      t.equal(errorCode(error), sqlstate.insufficientPrivilege, `${role}: ${statement}`)
    }
  }
  for (const [statement, hint] of Object.entries(sentences)) {
    t.match(await attempt(roles.operator, statement), { code: sqlstate.insufficientPrivilege, hint }, statement)
  }
  const functions = grants.filter(({ role, kind }) => role === 'operator' && kind === 'function')
  for (const { name } of functions) {
    const [{ call }] = await query(
      "select format('%s(%s)', $1::text, string_agg('null::' || format_type(type, null), ', ')) as call from pg_proc, unnest(proargtypes) as type where oid = $1::regproc",
      [name],
    )
    t.not(errorCode(await attempt(roles.operator, `select ${call}`)), sqlstate.insufficientPrivilege, call)
  }
  const views = await query(
    "select oid::regclass::text as name from pg_class where relnamespace = 'accepted'::regnamespace and relkind = 'v'",
  )
  t.ok(views.length > 5)
  for (const { name } of views) t.equal(await attempt(roles.reader, `select * from ${name}`), undefined, name)
  t.equal(await attempt(roles.operator, 'update accepted.schedule set paused = true, next_at = now()'), undefined)
})

t.test('our functions run with the rights of an owner that is no superuser, and not for PUBLIC', async (t) => {
  const url = await createDatabase(t)
  const functions = await queryOnce(
    url,
    `select p.oid::regprocedure::text as name, prosecdef as is_definer, rolname as owner, rolsuper as is_superuser,
      coalesce(proconfig, '{}') as settings,
      exists (select from aclexplode(coalesce(proacl, acldefault('f', proowner))) where grantee = 0) as is_public
    from pg_proc p join pg_roles r on r.oid = proowner
    where pronamespace in ('accepted'::regnamespace, 'accepted_queue'::regnamespace)`,
  )
  t.same(
    functions.filter(({ is_public }) => is_public).map(({ name }) => name),
    [],
  )
  t.same(
    functions.filter(({ owner }) => owner !== roles.owner).map(({ name }) => name),
    [],
  )
  t.same(
    functions.filter(({ is_superuser }) => is_superuser),
    [],
  )
  const definers = functions.filter(({ is_definer }) => is_definer)
  t.ok(definers.length > 20)
  for (const { name, settings } of definers) t.ok(settings.includes('search_path=pg_catalog, pg_temp'), name)
  t.match(asRole(url, 'migrate'), 'accepted_test_migrator')
})
