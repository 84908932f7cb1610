import { sql } from 'kysely'
import { readNodesAway, twoPhaseTable } from '../db/citus.ts'
import { queueSchema } from '../queue/schema.ts'
import { type Check, type CheckContext, type Finding, findingsOf } from './check.ts'

interface State {
  version: string
  has_table: boolean
  may_delete: boolean | null
}

/** The extension Citus: the table that makes it commit in two phases, tables that it distributes, and its nodes. */
export const citus: Check = {
  name: 'citus',
  async run(context) {
    const { database, query, note } = context
    const [state] = await query(sql<State>`
      select extversion as version, name is not null as has_table,
        has_table_privilege(name, 'select') and has_table_privilege(name, 'delete') as may_delete
      from pg_extension, to_regclass(${twoPhaseTable}) name where extname = 'citus'`)
    if (!state) {
      note('Citus is not installed')
      return []
    }
    note(`Citus ${state.version}`)
    const away = await readNodesAway(database)
    return [
      ...findingsOf(
        !state.has_table && {
          code: 'citus-table-missing',
          severity: 'error',
          message: `Citus is installed, but there is no table ${twoPhaseTable}, so the API and the workers do not start.`,
          action: 'Run: accepted migrate',
        },
        state.may_delete === false &&
          context.isProgramRole && {
            code: 'citus-table-not-writable',
            severity: 'error',
            message: `The role in DATABASE_URL may not delete from ${twoPhaseTable}, so the API and the workers do not start.`,
            action: 'Run: accepted migrate',
          },
        away.length > 0 && {
          code: 'citus-node-away',
          severity: 'error',
          message: `Citus is without ${away.join(', ')}. Requests that write to it get 503, and jobs are retried.`,
          action: 'Start the node, or mend its network: select * from citus_check_cluster_node_health()',
          details: { nodes: away },
        },
      ),
      ...(await judgeTables(context, state.has_table)),
    ]
  },
}

interface ManagedTable {
  name: string
  is_distributed: boolean
}

/** Finds out which of our tables Citus manages. It must manage one of them, and distribute none. */
async function judgeTables({ query }: CheckContext, hasTable: boolean): Promise<Finding[]> {
  // Citus also manages local tables: they have neither a distribution column nor copies on other nodes.
  const managed = await query(sql<ManagedTable>`
    select relation.oid::regclass::text as name,
      not (part.partmethod = 'n' and part.repmodel = 's' and part.colocationid = 0) as is_distributed
    from pg_dist_partition part join pg_class relation on relation.oid = part.logicalrelid
    where relation.relnamespace::regnamespace::text in ('accepted', ${queueSchema}) order by 1`)
  const distributed = managed.flatMap(({ name, is_distributed: isDistributed }) => (isDistributed ? [name] : []))
  return findingsOf(
    hasTable &&
      managed.every(({ name }) => name !== twoPhaseTable) && {
        code: 'citus-table-unmanaged',
        severity: 'error',
        message: `Citus does not manage ${twoPhaseTable}. If the coordinator dies, rows of the app may be stored without their job.`,
        action: `select citus_add_local_table_to_metadata('${twoPhaseTable}')`,
      },
    distributed.length > 0 && {
      code: 'citus-tables-distributed',
      severity: 'error',
      message: `Citus distributes ${distributed.join(', ')}. Then requests are accepted, but jobs do not run.`,
      action: `Run, for each table: select undistribute_table('${distributed[0]}'). For a distributed schema: select citus_schema_undistribute('accepted')`,
      details: { tables: distributed },
    },
  )
}
