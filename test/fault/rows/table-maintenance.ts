import { countOutcomes, findServerErrors } from '../findings.ts'
import { startReaders } from '../readers.ts'
import { findSpentAttempts, findStandstill, type Row, type RowContext, waitUntilDrained } from '../row.ts'

/** The statements that are run for each table, one after the other. */
const perTable = (table: string) => [
  `vacuum (full, analyze) ${table}`,
  `reindex (concurrently) table ${table}`,
  `vacuum (freeze) ${table}`,
]

// Without CONCURRENTLY, the DBA's statement runs into deadlocks with every transaction that reads before it updates.
const reindex = ['accepted', 'accepted_queue', 'public'].map((schema) => `reindex (concurrently) schema ${schema}`)

/** Each changes the result type of `select *` and `returning *`, so plans that were prepared before become stale. */
const columnChanges = (table: string) => [
  `alter table ${table} add column dba_note text`,
  `alter table ${table} add column dba_number integer not null default 1`,
  `alter table ${table} drop column dba_note`,
  `alter table ${table} drop column dba_number`,
  `alter table ${table} add column dba_time timestamptz default clock_timestamp()`,
]

const changedTables = [
  'domain',
  'effect',
  'accepted.job',
  'accepted_queue.job',
  'accepted.idempotency_key',
  'accepted.processed_key',
  'accepted.attempt',
  'accepted.change',
  'accepted_queue.queue',
]

export const tableMaintenance: Row = {
  name: 'table-maintenance',
  summary:
    'A DBA reindexes and vacuums every table and adds columns under load, while statements are prepared. Requests are accepted and jobs are settled during it, and no attempt is spent.',
  async run(context) {
    const load = context.startLoad({ connections: 10 })
    const findings = await findStandstill(context, load, 20)
    await using readers = startReaders(context)
    const tables = await findTables(context)
    const statements = [
      ...reindex,
      ...(context.isShort ? hotOf(tables) : tables).flatMap(perTable),
      ...(context.isShort ? changedTables.slice(0, 4) : changedTables).flatMap(columnChanges),
      ...reindex.slice(0, context.isShort ? 1 : reindex.length),
    ]
    for (const [index, statement] of statements.entries()) {
      if (findings.length > 0) break
      await context.query(statement)
      // Each statement of the product runs at least once on the changed tables.
      if (statement.startsWith('alter') || index % 5 === 0) findings.push(...(await findStandstill(context, load, 10)))
    }
    findings.push(...(await findStandstill(context, load, 20)))
    await load.stop()
    findings.push(...(await readers.stop()), ...findServerErrors(load.refusals, load.unknownOutcomes))
    await waitUntilDrained(context, 60)
    return {
      faultCount: statements.length,
      notes: [`${readers.count()} reads`, ...countOutcomes(load.unknownOutcomes, load.refusals)],
      findings: [...findings, ...(await findSpentAttempts(context))],
    }
  },
}

const hotOf = (tables: readonly string[]) => tables.filter((table) => /job|key|change$/.test(table))

/** Returns all tables of both schemas and of the app, with each partition instead of its parent. */
async function findTables({ query }: RowContext): Promise<string[]> {
  const rows = await query(
    `select oid::regclass::text as name from pg_class
    where relnamespace::regnamespace::text in ('accepted', 'accepted_queue', 'public') and relkind = 'r' order by 1`,
  )
  return rows.map(({ name }) => name)
}
