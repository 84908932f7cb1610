import { ConfigError } from '../config.ts'
import { queueSchema } from '../queue/schema.ts'
import { grantStatements, grants, hasGrant, roles, wantedGrants } from './grants.ts'
import { createRoles, schemas } from './roles.ts'
import type { MigrationSession } from './session.ts'
import type { Step } from './step.ts'

/** Which roles there are, and which there will be when the steps have run. */
export interface RolePlan {
  /** The role that owns, or will own, our schemas, as SQL; undefined for the role of the connection. */
  owner: string | undefined
  /** Steps that create missing roles and schemas. */
  steps: Step[]
  /** Whether one of our schemas exists before the steps. */
  hasSchemas: boolean
  /** The names of the group roles that exist once the steps have run. */
  groupRoles: string[]
  /** Sentences about what the role of the connection may not do, and which role may. */
  notes: string[]
}

const names = (list: readonly string[]) => list.map((name) => `'${name}'`).join(', ')

/** In Postgres 15, every member of a role may become that role. */
const mayBecome = (role: string) => `pg_has_role(session_user, ${role},
  case when current_setting('server_version_num')::integer < 160000 then 'member' else 'set' end)::text`

const readState = `
  select session_user::text as session, rolsuper::text as is_superuser, rolcreaterole::text as has_createrole,
    (select string_agg(rolname, ' ') from pg_roles where rolname in (${names(Object.values(roles))})) as present,
    (select ${mayBecome('oid')} from pg_roles where rolname = '${roles.owner}') as may_become_owner,
    (
      select pg_has_role(operator.oid, reader.oid, 'member')::text from pg_roles operator, pg_roles reader
      where operator.rolname = '${roles.operator}' and reader.rolname = '${roles.reader}'
    ) as operator_reads
  from pg_roles where rolname = current_user`

const readSchemas = `
  select nspname as name, quote_ident(rolname) as owner, (rolname = session_user)::text as is_own,
    ${mayBecome('nspowner')} as may_become
  from pg_namespace join pg_roles r on r.oid = nspowner where nspname in (${names(schemas)}) order by nspname`

type Row = Awaited<ReturnType<MigrationSession['query']>>[number]

/**
 * Finds out which role owns our schemas, and which roles and schemas to create.
 *
 * @throws ConfigError when the schemas belong to two roles, or to a role that the role of the connection may not become
 */
export async function planRoles(session: MigrationSession): Promise<RolePlan> {
  const [state = {}] = await session.query(readState)
  const found = await session.query(readSchemas)
  assertOneOwner(found, state.session)
  const present = state.present?.split(' ') ?? []
  const lacking = Object.values(roles).filter((name) => !present.includes(name))
  const isSuperuser = state.is_superuser === 'true'
  const mayCreate = isSuperuser || state.has_createrole === 'true'
  const createsOwner = mayCreate && lacking.includes(roles.owner)
  const [schema] = found
  const mayBecomeOwner = isSuperuser || createsOwner || state.may_become_owner === 'true'
  const ownerOfNew = mayBecomeOwner ? roles.owner : undefined
  const owner = schema ? (schema.is_own === 'true' ? undefined : (schema.owner as string)) : ownerOfNew
  const lacksReader = state.operator_reads === 'false'
  const missing = schemas.filter((name) => !found.some((schema) => schema.name === name))
  return {
    owner,
    steps: [
      ...stepOf('roles', [
        ...(lacking.length > 0 && mayCreate ? createRoles() : []),
        // Its creator may grant a role, but is no member of it.
        ...(createsOwner && !isSuperuser && !schema ? [`grant ${roles.owner} to current_user;`] : []),
        ...(lacksReader && isSuperuser ? [grantReader] : []),
      ]),
      ...stepOf(
        'schemas',
        missing.map((name) => createSchema(name, owner)),
      ),
    ],
    hasSchemas: schema !== undefined,
    groupRoles: mayCreate ? Object.values(roles) : present,
    notes: [
      ...(lacking.length > 0 && !mayCreate ? [rolesMissing(lacking, state.session)] : []),
      ...(lacksReader && !isSuperuser ? [`${roles.operator} cannot read: let a DBA run \`${grantReader}\`.`] : []),
    ],
  }
}

const stepOf = (title: string, statements: readonly string[]): Step[] =>
  statements.length === 0 ? [] : [{ title, text: statements.join('\n'), isTransactional: true }]

const grantReader = `grant ${roles.reader} to ${roles.operator};`

/** `if not exists` would need the privilege CREATE on the database even where the schema exists. */
const createSchema = (name: string, owner: string | undefined) =>
  `create schema ${name}${owner === undefined ? '' : ` authorization ${owner}`};`

const rolesMissing = (lacking: readonly string[], session: Row[string] | undefined) =>
  `These roles do not exist, and ${session} may not create them: ${lacking.join(', ')}. Accepted also works without them. \`accepted migrate --roles\` prints the SQL that creates them.`

function assertOneOwner([first, second]: readonly Row[], session: Row[string] | undefined): void {
  if (!first) return
  if (second && second.owner !== first.owner) {
    throw new ConfigError(
      `The schema ${first.name} belongs to ${first.owner}, but ${second.name} to ${second.owner}. Let a DBA give both to one role: \`alter schema ${second.name} owner to ${first.owner}\`.`,
    )
  }
  if (first.is_own === 'true' || first.may_become === 'true') return
  throw new ConfigError(
    `The schema ${first.name} belongs to ${first.owner}, and ${session} may not become that role. Run \`accepted migrate\` as ${first.owner}, or let a DBA run \`grant ${first.owner} to ${session}\`.`,
  )
}

const findDifferences = (groupRoles: readonly string[]) => `
  select name from ${wantedGrants(grants.filter(({ role }) => groupRoles.includes(roles[role])))}
  where not ${hasGrant('wanted.grantee')}
  union all
  select proname from pg_proc
  where pronamespace in (select oid from pg_namespace where nspname in (${names(schemas)}))
    and proowner = current_user::regrole
    and exists (select from aclexplode(coalesce(proacl, acldefault('f', proowner))) where grantee = 0)
  limit 1`

/**
 * Returns the SQL that grants the privileges of the group roles, and takes those on our functions from PUBLIC; undefined
 * when there is nothing to do. Run it as the owner of the schemas.
 *
 * @param isNeeded whether earlier steps create objects or roles
 */
export async function planGrants(
  session: MigrationSession,
  groupRoles: readonly string[],
  isNeeded: boolean,
): Promise<string | undefined> {
  if (!isNeeded && (await session.query(findDifferences(groupRoles))).length === 0) return undefined
  return [
    `revoke execute on all functions in schema accepted, ${queueSchema} from public;`,
    ...grantStatements(grants.filter(({ role }) => groupRoles.includes(roles[role]))),
  ].join('\n')
}
