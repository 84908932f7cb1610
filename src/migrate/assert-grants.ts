import { sql } from 'kysely'
import { ConfigError } from '../config.ts'
import type { Database } from '../db/database.ts'
import { describeGrant, type Grant, grants, hasGrant, roles, wantedGrants } from './grants.ts'

const processes = { api: 'the API', worker: 'the worker' } as const

interface MissingGrant extends Omit<Grant, 'role'> {
  /** The role of the connection. */
  user: string
  /** Whether it is a member of the group role; null if there is no such group role. */
  isMember: boolean | null
}

/**
 * Finds the privileges that a process needs, and that the role of the connection lacks. The role may have them itself, as
 * the owner of the tables, or as a member of one of {@link roles}.
 */
export async function findMissingGrants(
  { kysely }: Pick<Database, 'kysely'>,
  process: keyof typeof processes,
): Promise<MissingGrant[]> {
  const { rows } = await sql<MissingGrant>`
    select privilege, columns, kind, name, current_user::text as user,
      (select pg_has_role(current_user, oid, 'usage') from pg_roles where rolname = grantee) as "isMember"
    from ${sql.raw(wantedGrants(grants.filter(({ role }) => role === process)))}
    where not ${sql.raw(hasGrant('current_user'))}`.execute(kysely)
  return rows
}

/** @throws ConfigError that names the first privilege that the role of the connection lacks, and the way out */
export async function assertGrants(database: Pick<Database, 'kysely'>, process: keyof typeof processes): Promise<void> {
  const [missing] = await findMissingGrants(database, process)
  if (!missing) return
  const { user, isMember } = missing
  const group = roles[process]
  const wayOut =
    isMember === null
      ? `let a DBA run the SQL that \`accepted migrate --roles\` prints, then run \`accepted migrate\`, and then \`grant ${group} to ${user}\``
      : isMember
        ? `run \`accepted migrate\`, which grants it to ${group}`
        : `let a DBA run \`grant ${group} to ${user}\``
  throw new ConfigError(
    `The role ${user} in DATABASE_URL lacks the privilege ${describeGrant(missing)}, which ${processes[process]} needs: ${wayOut}.`,
  )
}
