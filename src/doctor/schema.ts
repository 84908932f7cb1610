import { sql } from 'kysely'
import { ConfigError } from '../config.ts'
import { assertGrants } from '../migrate/assert-grants.ts'
import { ownDirectory, readMigrations } from '../migrate/files.ts'
import { describeGrant, type Grant, grants, hasGrant, roles, wantedGrants } from '../migrate/grants.ts'
import { findPending } from '../migrate/history.ts'
import { assertComplete } from '../migrate/missing-parts.ts'
import type { MigrationSession } from '../migrate/session.ts'
import { planQueueSchema } from '../queue/install.ts'
import { queueSchema } from '../queue/schema.ts'
import type { Check, CheckContext, Finding } from './check.ts'
import { identifier } from './format.ts'

/** The checks of the migrations only send queries, so they need no session of their own here. */
const sessionOf = (query: MigrationSession['query']) => ({ query }) as unknown as MigrationSession

/** Runs a check of the migrations, and turns its error into a finding. */
async function findProblem(code: string, action: string, check: () => Promise<unknown>): Promise<Finding[]> {
  try {
    await check()
    return []
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return [{ code, severity: 'error', message: error.message, action }]
  }
}

/** Whether the schema is as the migrations have made it. */
export const schema: readonly Check[] = [
  { name: 'schema of the queue', run: findQueueProblem },
  { name: 'migrations', run: findChangedMigrations },
  { name: 'parts of the schema', run: findMissingParts },
  { name: 'migrations of the app', run: findPendingOfApp },
  { name: 'triggers', run: disabledTriggers },
  { name: 'invalid indexes', run: invalidIndexes },
  { name: 'privileges', run: findMissingGrants },
]

const runOn =
  ({ query }: CheckContext): MigrationSession['query'] =>
  (text) =>
    query(sql.raw(text))

function findQueueProblem(context: CheckContext): Promise<Finding[]> {
  return findProblem('queue-schema-version', 'Run the release of Accepted that the message names.', () =>
    planQueueSchema(runOn(context)),
  )
}

async function findChangedMigrations(context: CheckContext): Promise<Finding[]> {
  const own = await readMigrations('accepted', ownDirectory)
  return findProblem('migrations-changed', 'Run the release of Accepted that migrated the database.', () =>
    findPending(sessionOf(runOn(context)), 'accepted', own),
  )
}

function findMissingParts(context: CheckContext): Promise<Finding[]> {
  // Other checks report these parts, with a better way out.
  const withoutReported: MigrationSession['query'] = async (text) =>
    (await runOn(context)(text)).filter(({ part }) => !/^(enabled trigger|valid index) /.test(part ?? ''))
  return findProblem('schema-incomplete', `Restore these parts; ${ownDirectory}/schema.sql shows them.`, () =>
    assertComplete(sessionOf(withoutReported)),
  )
}

async function findPendingOfApp(context: CheckContext): Promise<Finding[]> {
  const { appMigrations } = context
  if (!appMigrations) return []
  const files = await readMigrations('app', appMigrations)
  let pending: readonly { name: string }[] = []
  const wrong = await findProblem('app-migrations-changed', 'Do what the message says.', async () => {
    pending = await findPending(sessionOf(runOn(context)), 'app', files)
  })
  if (pending.length === 0) return wrong
  const names = pending.map(({ name }) => name)
  const message = `Migrations of the app have not run: ${names.join(', ')}.`
  return [
    ...wrong,
    { code: 'app-migrations-pending', severity: 'error', message, action: 'accepted migrate', details: { names } },
  ]
}

async function disabledTriggers({ query }: CheckContext): Promise<Finding[]> {
  const rows = await query(sql<{ relation: string; name: string }>`
    select format('%I.%I', n.nspname, c.relname) as relation, t.tgname::text as name
    from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
    where n.nspname in ('accepted', ${queueSchema}) and not t.tgisinternal and t.tgenabled in ('D', 'R')
    order by 1, 2`)
  if (rows.length === 0) return []
  const statements = rows.map(({ relation, name }) => `alter table ${relation} enable trigger ${identifier(name)}`)
  return [
    {
      code: 'trigger-disabled',
      severity: 'error',
      message: `Triggers are switched off, so that changes are not announced or wrong changes are not refused: ${rows.map(({ relation, name }) => `${name} on ${relation}`).join(', ')}.`,
      action: statements.join('; '),
      details: { triggers: rows },
    },
  ]
}

async function invalidIndexes({ query }: CheckContext): Promise<Finding[]> {
  const rows = await query(sql<{ index: string }>`
    select format('%I.%I', n.nspname, c.relname) as index
    from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
    where n.nspname in ('accepted', ${queueSchema}) and not (i.indisvalid and i.indisready)
      and not exists (select from pg_stat_progress_create_index running where running.index_relid = i.indexrelid)
    order by 1`)
  return rows.map(({ index }) => ({
    code: 'index-invalid',
    severity: 'error' as const,
    message: `The index ${index} is invalid: it costs writes, but no query uses it.`,
    // The name of what an interrupted REINDEX CONCURRENTLY leaves behind (PostgreSQL manual, REINDEX).
    action: /_cc(new|old)\d*"?$/.test(index)
      ? `drop index concurrently ${index}`
      : `reindex index concurrently ${index}`,
    details: { index },
  }))
}

interface MissingGrant extends Omit<Grant, 'role'> {
  grantee: string
}

/** Whether the group roles, and the role of DATABASE_URL, have their privileges. */
async function findMissingGrants(context: CheckContext): Promise<Finding[]> {
  const missing = await context.query(sql<MissingGrant>`
      select grantee, privilege, columns, kind, name from ${sql.raw(wantedGrants(grants))}
      where exists (select from pg_roles where rolname = grantee) and not ${sql.raw(hasGrant('wanted.grantee'))}`)
  const ofGroups = [...Map.groupBy(missing, ({ grantee }) => grantee)].map(([role, lost]): Finding => {
    const list = lost.map((grant) => describeGrant(grant as unknown as Grant))
    return {
      code: 'grant-missing',
      severity: 'error',
      message: `The role ${role} lacks privileges: ${list.join('; ')}.`,
      action: 'Run `accepted migrate` as the owner of the schema, which grants them.',
      details: { role, privileges: list },
    }
  })
  return ofGroups.length > 0 ? ofGroups : findMissingOfOwn(context)
}

/** The role may run the API, the workers, or both. It needs the privileges of the groups that it belongs to. */
async function findMissingOfOwn({ database, query, isProgramRole }: CheckContext): Promise<Finding[]> {
  const groups = await query(sql<{ name: string }>`
    select rolname::text as name from pg_roles
    where rolname = any(${Object.values(roles)}) and pg_has_role(current_user, oid, 'usage')`)
  const isIn = (name: string) => groups.some((group) => group.name === name)
  const processes = (['api', 'worker'] as const).filter((process) => isIn(roles[process]))
  const wanted = processes.length > 0 ? processes : isProgramRole ? (['api', 'worker'] as const) : []
  const found: Finding[] = []
  for (const process of wanted) {
    const action = 'Do what the message says.'
    found.push(...(await findProblem('grant-missing', action, () => assertGrants(database, process))))
  }
  return found
}
