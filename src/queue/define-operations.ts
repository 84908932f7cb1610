import { sql } from 'kysely'
import pg from 'pg'
import { NIL } from 'uuid'
import type { Database } from '../db/database.ts'
import { retryOnContention } from '../db/transaction-retry.ts'
import type { Operation } from '../operation.ts'
import { parseRate } from '../rate.ts'
import type { PgBoss } from './boss.ts'

/** Writes the operations to `accepted.operation`, and creates or updates their queues. */
export async function defineOperations({ kysely }: Database, operations: Iterable<Operation>): Promise<void> {
  const definitions = definitionsOf(operations)
  await retryOnContention(() => sql`select accepted.define_operations(${definitions}::jsonb)`.execute(kysely))
}

/** Returns the statement of {@link defineOperations} as text, for a migration. */
export const defineOperationsText = (operations: Iterable<Operation>): string =>
  `select accepted.define_operations(${pg.escapeLiteral(definitionsOf(operations))}::jsonb);`

const definitionsOf = (operations: Iterable<Operation>) => JSON.stringify(Array.from(operations, toRow))

/**
 * Defines the operations, and fills pg-boss's queue cache. On a cache miss in a transaction, pg-boss would take a second
 * connection, and would deadlock if the pool had none left.
 */
export async function prepareQueues(database: Database, boss: PgBoss, operations: Iterable<Operation>): Promise<void> {
  const defined = [...operations]
  await defineOperations(database, defined)
  for (const { name } of defined) await boss.findJobs(name, { id: NIL })
}

/** A row of `accepted.operation`. */
const toRow = ({ name, summary, retry, priority, schemas, ...operation }: Operation) => ({
  name,
  summary,
  retry_limit: retry.limit,
  retry_delay_seconds: retry.delaySeconds,
  retry_backoff: retry.backoff,
  retry_max_delay_seconds: retry.maxDelaySeconds,
  timeout_seconds: operation.timeoutSeconds,
  heartbeat_seconds: operation.heartbeatSeconds,
  priority,
  group_concurrency: operation.groupConcurrency ?? null,
  ...limitColumns(operation),
  max_backlog: operation.maxBacklog ?? null,
  max_backlog_per_principal: operation.maxBacklogPerPrincipal ?? null,
  keep_seconds: operation.keepSeconds,
  has_abandon: operation.abandon !== undefined,
  is_fair: operation.fair,
  payload_schema: toJson(schemas.payload),
})

function limitColumns({ limit }: Pick<Operation, 'limit'>) {
  const rate = parseRate(limit?.rate)
  return {
    limit_starts: rate?.starts ?? null,
    limit_period_seconds: rate?.periodSeconds ?? null,
    limit_concurrency: limit?.concurrency ?? null,
    limit_has_key: limit ? limit.key !== undefined : null,
  }
}

/** Returns the schema as JSON, or null if Postgres cannot store it: a schema may contain functions or NUL characters. */
function toJson(schema: unknown): unknown {
  try {
    const text = JSON.stringify(schema)
    return text.includes('\\u0000') ? null : JSON.parse(text)
  } catch {
    return null
  }
}
