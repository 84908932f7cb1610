import { type GrantedRole, privileges, roles } from './privileges.ts'

export { type GrantedRole, roles } from './privileges.ts'

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
