import { sql } from 'kysely'
import { ConfigError } from '../config.ts'
import { assertSessionSettings } from '../db/session-settings.ts'
import { roles } from '../migrate/grants.ts'
import type { Check, CheckContext, Finding } from './check.ts'
import { formatSeconds, identifier } from './format.ts'

interface Setting {
  name: string
  value: string
  /** The role whose connections get this value. Null: the role of DATABASE_URL. */
  role: string | null
  /** Whether the role of DATABASE_URL sets the value itself. */
  is_own: boolean
  database: string
}

interface Rule {
  setting: string
  severity: Finding['severity']
  isBad(value: string, longestTimeoutSeconds: number): boolean
  /** What happens, after the words `fsync is off: `. */
  harm: string
  /** The value to set. */
  better: string
  /** Whether only the server has this setting, in its configuration file. */
  isOfServer?: boolean
}

const unitsMs: Readonly<Record<string, number>> = {
  us: 0.001,
  ms: 1,
  s: 1_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
}

/** Parses a duration of Postgres, such as `5s` or `5000`. Without a unit, it is in milliseconds. */
function parseMs(value: string): number {
  const [, amount = '0', unit = 'ms'] = /^'?(\d+)\s*([a-z]*)'?$/.exec(value) ?? []
  return Number(amount) * (unitsMs[unit || 'ms'] ?? 1)
}

/** A timeout of 0 is off. */
const isBelow = (value: string, limitMs: number) => parseMs(value) > 0 && parseMs(value) < limitMs

const rules: readonly Rule[] = [
  {
    ...{ setting: 'fsync', severity: 'error', isBad: (value) => value === 'off', better: 'on', isOfServer: true },
    harm: 'a crash of the machine can lose accepted jobs and damage the database',
  },
  {
    ...{ setting: 'full_page_writes', severity: 'error', isBad: (value) => value === 'off', better: 'on' },
    ...{ isOfServer: true, harm: 'a crash of the machine can damage the database' },
  },
  {
    ...{ setting: 'synchronous_commit', severity: 'error', isBad: (value) => value === 'off', better: 'on' },
    harm: 'a crash of Postgres can lose jobs for which clients have got 202',
  },
  {
    ...{ setting: 'autovacuum', severity: 'error', isBad: (value) => value === 'off', better: 'on', isOfServer: true },
    harm: 'each job leaves dead rows, and claims get slower and slower',
  },
  {
    ...{ setting: 'track_counts', severity: 'error', isBad: (value) => value === 'off', better: 'on' },
    harm: 'autovacuum does not learn which tables have dead rows',
  },
  {
    ...{ setting: 'track_activities', severity: 'warning', isBad: (value) => value === 'off', better: 'on' },
    harm: 'long transactions cannot be found',
  },
  {
    ...{
      setting: 'session_replication_role',
      severity: 'error',
      isBad: (value) => value !== 'origin',
      better: 'origin',
    },
    harm: 'no trigger fires, so changes are not announced and wrong changes are not refused; the API and the workers do not start',
  },
  {
    ...{ setting: 'default_transaction_read_only', severity: 'error', isBad: (value) => value === 'on', better: 'off' },
    harm: 'the API and the workers do not start',
  },
  {
    ...{ setting: 'lock_timeout', severity: 'warning', isBad: (value) => isBelow(value, 1_000), better: '0' },
    harm: 'statements that briefly wait for each other fail, and are retried or answered with 503',
  },
  {
    ...{ setting: 'statement_timeout', severity: 'warning', isBad: (value) => isBelow(value, 10_000), better: '0' },
    harm: 'maintenance does not end, for example dropping the partitions of expired jobs',
  },
  {
    ...{ setting: 'transaction_timeout', severity: 'warning', better: '0' },
    isBad: (value, longestTimeoutSeconds) => isBelow(value, Math.max(10, longestTimeoutSeconds) * 1_000),
    harm: 'a settle that takes longer, although within the timeout of its operation, is rolled back and retried',
  },
  {
    ...{ setting: 'idle_in_transaction_session_timeout', severity: 'warning', better: '30s' },
    isBad: (value) => isBelow(value, 5_000),
    harm: 'transactions of the app that enqueue jobs on its own connections are aborted',
  },
  {
    ...{ setting: 'idle_session_timeout', severity: 'warning', isBad: (value) => isBelow(value, 60_000), better: '0' },
    harm: 'connections of the app and of poolers break while they are idle',
  },
]

/** The values that connections start with: our own sessions change some. */
const readSettings = sql<Setting>`
  select name, reset_val as value, null as role, exists (
      select from pg_db_role_setting own join pg_roles me on me.oid = own.setrole and me.rolname = current_user
      cross join unnest(own.setconfig) entry
      where own.setdatabase in (0, (select oid from pg_database where datname = current_database()))
        and split_part(entry, '=', 1) = pg_settings.name
    ) as is_own,
    current_database()::text as database
  from pg_settings where name = any(${rules.map(({ setting }) => setting)})
  union all
  (
    select distinct on (role.rolname, split_part(entry, '=', 1))
      split_part(entry, '=', 1), substr(entry, strpos(entry, '=') + 1), role.rolname::text, false,
      current_database()::text
    from pg_db_role_setting setting
    join pg_roles role on role.oid = setting.setrole
    cross join unnest(setting.setconfig) entry
    where setting.setdatabase in (0, (select oid from pg_database where datname = current_database()))
      and role.rolname <> current_user and (
        role.rolname = any(${[roles.api, roles.worker]}) or exists (
          select from pg_auth_members member join pg_roles granted on granted.oid = member.roleid
          where member.member = role.oid and granted.rolname = any(${[roles.api, roles.worker]})
        )
      )
    -- The setting for this database overrides the one for all databases.
    order by role.rolname, split_part(entry, '=', 1), setting.setdatabase desc
  )`

function report({ setting, severity, harm, better, isOfServer }: Rule, found: Setting): Finding {
  const { value, role } = found
  return {
    code: `setting-${setting.replaceAll('_', '-')}`,
    severity,
    message: `${setting} is ${setting.endsWith('_timeout') ? formatTimeout(value) : value}${role ? ` for the role ${role}` : ''}: ${harm}.`,
    action: isOfServer
      ? `alter system set ${setting} = ${better}; select pg_reload_conf()`
      : statementFor(found, `${setting} = '${better}'`),
    details: { setting, value, ...(role && { role }) },
  }
}

/** For a role and a database together, the value overrides all others. */
function statementFor({ name, role, is_own: isOwn, database }: Setting, assignment: string): string {
  const scope = role || isOwn ? `role ${role ? identifier(role) : 'current_user'} in database` : 'database'
  const statement = `alter ${scope} ${identifier(database)} set ${assignment}`
  return name === 'default_transaction_read_only' ? `begin read write; ${statement}; commit` : statement
}

const formatTimeout = (value: string): string =>
  parseMs(value) >= 1_000 ? formatSeconds(parseMs(value) / 1_000) : `${parseMs(value)} ms`

async function longestTimeout({ query }: CheckContext): Promise<number> {
  const [row] = await query(sql<{ seconds: number | null }>`
    select max(timeout_seconds) as seconds from accepted.operation`)
  return row?.seconds ?? 0
}

/** Settings of the server, the database and the roles with which Accepted works badly or not at all. */
export const settings: Check = {
  name: 'settings',
  async run(context) {
    const longest = await longestTimeout(context)
    const found = (await context.query(readSettings))
      // What the role of a person sets for itself does not concern the API and the workers.
      .filter(({ is_own }) => context.isProgramRole || !is_own)
      .flatMap((setting) =>
        rules
          .filter((rule) => rule.setting === setting.name && rule.isBad(setting.value, longest))
          .map((rule) => report(rule, setting)),
      )
    return found.some(({ severity }) => severity === 'error') ? found : [...found, ...(await findUnsuitable(context))]
  },
}

/** Settings with which the API and the workers do not start, for example `search_path` behind a pooler. */
async function findUnsuitable({ database, isProgramRole }: CheckContext): Promise<Finding[]> {
  if (!isProgramRole) return []
  try {
    await assertSessionSettings(database.pool)
    return []
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    const action = 'Set the value that the message names, and connect again.'
    return [{ code: 'unsuitable-setting', severity: 'error', message: error.message, action }]
  }
}
