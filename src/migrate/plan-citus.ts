import { twoPhaseTable } from '../db/citus.ts'
import { roles } from './privileges.ts'
import type { MigrationSession } from './session.ts'
import type { Step } from './step.ts'

/**
 * Returns the step that creates the table with which API and worker make Citus commit in two phases; none without Citus,
 * or when the table exists. The other tables stay ordinary tables of the coordinator.
 */
export async function planCitus(
  session: MigrationSession,
  groupRoles: readonly string[],
  owner: string | undefined,
): Promise<Step[]> {
  const [missing] = await session.query(`
    select extversion as version from pg_extension where extname = 'citus' and to_regclass('${twoPhaseTable}') is null`)
  if (!missing) return []
  const grantees = [roles.api, roles.worker].filter((role) => groupRoles.includes(role))
  const text = [
    `create table ${twoPhaseTable} (id integer, constraint two_phase_pkey primary key (id));`,
    `comment on table ${twoPhaseTable} is 'Always empty. Citus manages it. The API and the workers delete from it in every transaction that writes jobs, so that Citus commits the transaction in two phases.';`,
    `comment on column ${twoPhaseTable}.id is 'Never set.';`,
    ...(grantees.length > 0 ? [`grant select, delete on table ${twoPhaseTable} to ${grantees.join(', ')};`] : []),
    `select citus_add_local_table_to_metadata('${twoPhaseTable}');`,
  ].join('\n')
  return [{ title: `table ${twoPhaseTable} for Citus`, text, isTransactional: true, owner }]
}
