import { queueSchema } from '../queue/schema.ts'

/** The group roles. An app's login roles are members of them. A single role that owns everything works too. */
export const roles = {
  owner: 'accepted_owner',
  api: 'accepted_api',
  worker: 'accepted_worker',
  reader: 'accepted_reader',
  operator: 'accepted_operator',
} as const

/** A role with privileges. The owner needs none. */
export type GrantedRole = Exclude<keyof typeof roles, 'owner'>

/** A privilege of a role on an object. */
export interface Grant {
  role: GrantedRole
  kind: 'schema' | 'table' | 'function'
  /** The name, without arguments: no function has two definitions. */
  name: string
  privilege: 'usage' | 'select' | 'insert' | 'update' | 'delete' | 'execute'
  /** Default: all columns of the table. */
  columns?: readonly string[]
}

interface RolePrivileges {
  schemas: readonly string[]
  /** By table: the privileges, each with the columns in parentheses unless it is for the whole table. */
  tables: Readonly<Record<string, string>>
  functions: readonly string[]
}

const queue = (name: string) => `${queueSchema}.${name}`

const endpointColumns = 'id, url, event_types, operations, created_at, secret_rotated_at, disabled_at, disabled_reason'

const readableJobColumns = [
  'id, operation, status, principal, idempotency_key, resource, group_id, retry_of, parent, webhook_endpoint_id',
  'worker_id, traceparent, sequence, attempt, max_attempts, coalesced, cancel_requested, cancel_requested_at, percent',
  'message, error, created_at, run_at, started_at, attempt_started_at, progress_at, updated_at, ended_at, expires_at',
].join(', ')

const privileges: Readonly<Record<GrantedRole, RolePrivileges>> = {
  api: {
    schemas: ['accepted', queueSchema],
    tables: {
      'accepted.migration': 'select',
      'accepted.job': 'select, insert',
      'accepted.change': 'select',
      'accepted.change_expiry': 'select',
      'accepted.idempotency_key': 'select, insert, update (fingerprint, job_id, created_at)',
      'accepted.run_time': 'select',
      'accepted.webhook_endpoint': `select (${endpointColumns}), insert (id, url, event_types, operations, secrets), delete`,
      'accepted.api_key': 'select',
      [queue('version')]: 'select',
      [queue('queue')]: 'select',
      [queue('job')]: 'select',
      [queue('job_common')]: 'select, insert',
    },
    functions: [
      'accepted.define_operations',
      'accepted.jobs_changed_since',
      'accepted.may_be_deleted',
      'accepted.is_backlog_full',
      ...['lock_own_job', 'take_coalescing_keys', 'coalesce_requests'].map((name) => `accepted.${name}`),
      'accepted.cancel',
      'accepted.create_retry',
      'accepted.enqueue',
      'accepted.rotate_webhook_secret',
      queue('job_now'),
    ],
  },
  worker: {
    schemas: ['accepted', queueSchema],
    tables: {
      'accepted.migration': 'select',
      'accepted.job': 'select, insert, update',
      'accepted.operation': 'select',
      'accepted.worker': 'select, insert, update, delete',
      'accepted.attempt': 'select, insert',
      'accepted.processed_key': 'select, insert, delete',
      'accepted.rescue': 'select, insert, update',
      'accepted.quarantine': 'select, insert, update, delete',
      'accepted.reconciliation': 'select, update',
      'accepted.schedule': 'select, insert, update, delete',
      'accepted.run_time': 'select, insert, update',
      'accepted.webhook_endpoint': 'select, update (disabled_at, disabled_reason)',
      [queue('version')]: 'select, update',
      [queue('queue')]: 'select, update',
      [queue('job')]: 'select, insert, update, delete',
      [queue('job_common')]: 'select, insert, update, delete',
      [queue('job_dependency')]: 'select, delete',
    },
    functions: [
      'accepted.define_operations',
      'accepted.is_paused',
      'accepted.is_overdue',
      'accepted.live_workers',
      'accepted.uuid_floor',
      'accepted.claim',
      'accepted.enqueue',
      'accepted.delete_old_changes',
      'accepted.create_job_partitions',
      'accepted.replace_default_partition',
      'accepted.begin_expiry',
      'accepted.delete_keys_of_day',
      'accepted.delete_jobs_of_day',
      queue('job_now'),
    ],
  },
  reader: {
    schemas: ['accepted'],
    tables: {
      'accepted.job': `select (${readableJobColumns})`,
      'accepted.idempotency_key': 'select (principal, key, job_id, created_at)',
      'accepted.webhook_endpoint': `select (${endpointColumns})`,
      'accepted.api_key': 'select (id, name, principal, scopes, created_at, revoked_at)',
      ...Object.fromEntries(
        [
          ...['migration', 'app_migration', 'operation', 'worker', 'ended_job', 'processed_key', 'attempt', 'rescue'],
          ...['coalesced_key', 'quarantine', 'reconciliation', 'audit', 'schedule', 'run_time', 'expiry'],
          ...['job_overview', 'timeline', 'backlog', 'stuck', 'failure', 'throughput', 'storage', 'worker_overview'],
          'held_key',
        ].map((name) => [`accepted.${name}`, 'select']),
      ),
    },
    // The views call these functions.
    functions: [
      'accepted.uuid_floor',
      'accepted.uuid_time',
      'accepted.is_paused',
      'accepted.is_overdue',
      'accepted.live_workers',
      'accepted.count_workers',
      'accepted.worker_name',
      'accepted.job_partitions',
      ...['due_jobs', 'count_waiting', 'claimed_jobs', 'failed_jobs', 'ended_jobs'].map((name) => `accepted.${name}`),
    ],
  },
  operator: {
    schemas: ['accepted', queueSchema],
    tables: {
      'accepted.schedule': 'update (paused, next_at)',
      // With these, a trigger answers a direct change, and names the function to use.
      'accepted.job': `insert (${readableJobColumns}, payload, result), update (${readableJobColumns}, payload, result), delete`,
      [queue('job')]: 'insert (id, name, data, state, priority, group_id, start_after, created_on, keep_until, policy)',
    },
    functions: [
      ...['enqueue', 'cancel', 'retry', 'redrive', 'pause', 'resume', 'reschedule', 'prioritize', 'forget', 'expire'],
      // accepted jobs redrive
      'redrive_batch',
    ].map((name) => `accepted.${name}`),
  },
}

const tablePrivilege = /(select|insert|update|delete)(?: \(([^)]+)\))?/g

function listGrants(role: GrantedRole): Grant[] {
  const { schemas, tables, functions } = privileges[role]
  return [
    ...schemas.map((name) => ({ role, kind: 'schema', name, privilege: 'usage' }) as const),
    ...Object.entries(tables).flatMap(([name, list]) =>
      Array.from(list.matchAll(tablePrivilege), ([, privilege, columns]) => ({
        ...{ role, kind: 'table' as const, name, privilege: privilege as Grant['privilege'] },
        ...(columns && { columns: columns.split(', ') }),
      })),
    ),
    ...functions.map((name) => ({ role, kind: 'function', name, privilege: 'execute' }) as const),
  ]
}

/** Every privilege that `accepted migrate` grants, and that the API and the worker check when they start. */
export const grants: readonly Grant[] = (Object.keys(privileges) as GrantedRole[]).flatMap(listGrants)

/** Describes a grant: `update (paused) on table accepted.schedule`. */
export const describeGrant = ({ privilege, columns, kind, name }: Omit<Grant, 'role'>): string =>
  `${privilege}${columns ? ` (${columns.join(', ')})` : ''} on ${kind} ${name}`

/** Returns the statements that make the grants. One statement makes all grants of the same privilege. */
export function grantStatements(given: readonly Grant[]): string[] {
  const alike = Map.groupBy(
    given,
    ({ role, kind, privilege, columns = [] }) => `${role} ${kind} ${privilege} ${columns.join()}`,
  )
  return Array.from(alike.values(), (group) => {
    const [first] = group as [Grant, ...Grant[]]
    const name = group.map((grant) => grant.name).join(', ')
    return `grant ${describeGrant({ ...first, name })} to ${roles[first.role]};`
  })
}

/** {@link grants} as the rows of a table `wanted`, with the name of each role. Parameters are not possible in a DO block. */
export const wantedGrants = (kept: readonly Grant[]): string => {
  const rows = kept.map(({ role, columns, ...grant }) => ({ ...grant, columns, grantee: roles[role] }))
  return `json_to_recordset('${JSON.stringify(rows)}')
    as wanted (grantee text, kind text, name text, privilege text, columns text[])`
}

/**
 * Returns a condition on a row of {@link wantedGrants}: whether a role has the privilege. It is true for an object that
 * does not exist.
 *
 * @param role an expression: the name of the role, which must exist
 */
export const hasGrant = (role: string): string => `coalesce(case wanted.kind
  when 'schema' then (
    select has_schema_privilege(${role}, oid, wanted.privilege) from pg_namespace where nspname = wanted.name
  )
  when 'table' then (
    select case when wanted.columns is null then has_table_privilege(${role}, c.oid, wanted.privilege) else (
      select bool_and(has_column_privilege(${role}, c.oid, attnum, wanted.privilege)) from pg_attribute
      where attrelid = c.oid and attname = any(wanted.columns)
    ) end
    from pg_class c join pg_namespace n on n.oid = relnamespace where nspname || '.' || relname = wanted.name
  )
  else (
    select bool_and(has_function_privilege(${role}, p.oid, wanted.privilege))
    from pg_proc p join pg_namespace n on n.oid = pronamespace where nspname || '.' || proname = wanted.name
  )
end, true)`
