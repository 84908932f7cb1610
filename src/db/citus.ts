import { sql } from 'kysely'
import { ConfigError } from '../config.ts'
import type { AnyTransaction } from '../operation.ts'
import { settledWithin } from '../primitives/timeout.ts'
import type { Database } from './database.ts'
import { errorCode, sqlstate } from './sqlstate.ts'

/** The table that {@link forceTwoPhase} writes to. `accepted migrate` creates it where Citus is installed. */
export const twoPhaseTable = 'accepted.two_phase'

/**
 * Finds out whether the database is the coordinator of a Citus cluster. Then {@link forceTwoPhase} is needed in every
 * transaction that may write rows of the app together with ours.
 *
 * @throws ConfigError when Citus was installed after the last `accepted migrate`, or when the role lacks privileges
 */
export async function detectCitus(database: Database): Promise<void> {
  const { rows } = await sql<{ may_delete: boolean | null }>`
    select has_table_privilege(name, 'select') and has_table_privilege(name, 'delete') as may_delete
    from pg_extension, to_regclass(${twoPhaseTable}) name where extname = 'citus'`.execute(database.kysely)
  const [citus] = rows
  if (citus && !citus.may_delete) {
    throw new ConfigError(
      `Citus is installed in this database, but ${
        citus.may_delete === null
          ? `there is no table ${twoPhaseTable}`
          : `the role may not delete from ${twoPhaseTable}`
      }: run \`accepted migrate\`.`,
    )
  }
  database.isDistributed = citus !== undefined
}

/**
 * Makes Citus commit the transaction in two phases, by writing to a table that Citus manages. Otherwise Citus commits a
 * transaction that touches a single shard and our tables in two separate steps. If the coordinator dies between the two,
 * the app's rows exist without their job. Does nothing without Citus.
 */
export async function forceTwoPhase({ isDistributed }: Database, trx: AnyTransaction): Promise<void> {
  // The parameter makes it a named prepared statement.
  if (isDistributed) await sql`delete from accepted.two_phase where id = ${0}`.execute(trx)
}

const nodesTimeoutMs = 2_000
const nodesIntervalMs = 5_000

/** The nodes to which the coordinator, or another node, can connect have at least one true result. */
const nodesAway = sql<{ node: string }>`
  select to_nodename || ':' || to_nodeport as node from citus_check_cluster_node_health()
  group by 1 having bool_or(result) is not true order by 1`

/**
 * Returns a function that returns the nodes of the Citus cluster that are away. It answers within about two seconds, and
 * asks at most once every five seconds. Without Citus, it asks nothing.
 */
export function watchNodes(database: Database): () => Promise<string[]> {
  let answer: Promise<string[]> = Promise.resolve([])
  let askedAt = Number.NEGATIVE_INFINITY
  return async () => {
    if (!database.isDistributed) return []
    if (performance.now() - askedAt > nodesIntervalMs) {
      askedAt = performance.now()
      answer = readNodesAway(database)
    }
    return answer
  }
}

const unknownNodes = [`a node that did not answer within ${nodesTimeoutMs / 1000} s`]

/** Returns the nodes of the Citus cluster that are away, within about two seconds. */
export async function readNodesAway({ kysely }: Database): Promise<string[]> {
  const reading = kysely.transaction().execute(async (trx) => {
    await sql`select set_config('statement_timeout', ${String(nodesTimeoutMs)}, true)`.execute(trx)
    return (await nodesAway.execute(trx)).rows.map(({ node }) => node)
  })
  const isCanceled = (error: unknown) => errorCode(error) === sqlstate.queryCanceled
  const read = reading.catch((error) => (isCanceled(error) ? unknownNodes : Promise.reject(error)))
  // Postgres may notice the timeout late, while it connects to a node.
  return (await settledWithin(read, nodesTimeoutMs + 500)) ? read : unknownNodes
}
