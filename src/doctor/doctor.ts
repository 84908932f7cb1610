import { type RawBuilder, sql } from 'kysely'
import type { Database } from '../db/database.ts'
import { commitStatement, pipeline } from '../db/pipeline.ts'
import { errorCode, sqlstate } from '../db/sqlstate.ts'
import { assertMigrated } from '../migrate/migrate.ts'
import type { AnyTransaction } from '../operation.ts'
import { redact } from '../primitives/redact.ts'
import type { Check, CheckContext, Finding } from './check.ts'
import { citus } from './citus.ts'
import { clock, futureTimes } from './clocks.ts'
import { connections } from './connections.ts'
import { indexes } from './indexes.ts'
import { jobs } from './jobs.ts'
import { defaultLimits, type Limits } from './limits.ts'
import { notifications } from './notifications.ts'
import { operations } from './operations.ts'
import { partitions } from './partitions.ts'
import { schema } from './schema.ts'
import { server } from './server.ts'
import { settings } from './settings.ts'
import { replication } from './slots.ts'
import { tables } from './tables.ts'
import { transactions } from './transactions.ts'
import { webhooks } from './webhooks.ts'

/** The checks that do not need the schema. If they find errors, the other checks are skipped. */
const preconditions: readonly Check[] = [server]

const checks: readonly Check[] = [
  ...[settings, ...schema, ...transactions, ...replication, tables, ...indexes, ...partitions],
  ...[connections, notifications, clock, futureTimes, ...operations, ...jobs, ...webhooks, citus],
]

/** Limits how long each statement of a check may take, and how long it may wait for a lock. */
const statementTimeoutMs = 10_000
const lockTimeoutMs = 2_000

const limitTransaction = sql`
  select set_config(name, value, true)
  from (values ('statement_timeout', ${sql.lit(String(statementTimeoutMs))}),
    ('lock_timeout', ${sql.lit(String(lockTimeoutMs))}), ('transaction_timeout', '0')) as wanted (name, value)
  -- Not every version has all of them.
  where exists (select from pg_settings where pg_settings.name = wanted.name)`

export interface ExamineOptions {
  /** The maximum size of the pools of API and worker, if POOL_SIZE sets it. */
  poolSize?: number | undefined
  /** Directory of the app's own migrations. */
  appMigrations?: string | undefined
  /** The ids of the keys in ENCRYPTION_KEYS; none if it is not set. */
  keyIds?: readonly string[] | undefined
  /** The clock of this machine: milliseconds since 1970. */
  now?: () => number
  limits?: Partial<Limits>
}

export interface Examination {
  /** Errors come first. */
  findings: Finding[]
  /** What was checked, and with which figures. */
  notes: { check: string; text: string }[]
}

/**
 * Examines the server, the schema and the jobs. Reads only, except that it sends one notification. What the role may
 * not read is left out, and one warning names it.
 *
 * @throws ProblemError schema-outdated when migrations have not run
 */
export async function examine(database: Database, options: ExamineOptions = {}): Promise<Examination> {
  const examination: Examination = { findings: [], notes: [] }
  const hidden = new Set<string>()
  const context: CheckContext = {
    database,
    limits: { ...defaultLimits, ...options.limits },
    appMigrations: options.appMigrations,
    poolSize: options.poolSize,
    keyIds: options.keyIds ?? [],
    now: options.now ?? Date.now,
    isPooled: await isPooled(database),
    isProgramRole: await canAcceptJobs(database),
    query: (statement) => queryWithinLimits(database, statement),
    hide: (what) => hidden.add(what),
    note: () => {},
  }
  for (const check of preconditions) await runCheck(check, context, examination)
  if (!examination.findings.some(({ severity }) => severity === 'error')) {
    await requireMigrated(context)
    for (const check of checks) await runCheck(check, context, examination)
  }
  if (hidden.size > 0) examination.findings.push(hiddenFinding([...hidden]))
  examination.findings.sort((one, other) => Number(one.severity === 'warning') - Number(other.severity === 'warning'))
  return examination
}

async function queryWithinLimits<Row>({ kysely }: Database, statement: RawBuilder<Row>): Promise<Row[]> {
  return kysely.transaction().execute(async (trx) => {
    const [, { rows }] = await pipeline(trx as unknown as AnyTransaction, (trx) => [
      limitTransaction.execute(trx),
      statement.execute(trx),
      commitStatement(trx),
    ])
    return rows
  })
}

/** Runs a check. If the role may not read something, or something takes too long, the other checks still run. */
async function runCheck(check: Check, context: CheckContext, { findings, notes }: Examination): Promise<void> {
  const before = notes.length
  const note = (text: string) => void notes.push({ check: check.name, text })
  try {
    const found = await check.run({ ...context, note })
    findings.push(...found)
    if (found.length === 0 && notes.length === before) note('nothing found')
  } catch (error) {
    const code = errorCode(error)
    if (code === sqlstate.insufficientPrivilege) return context.hide(check.name)
    if (code !== sqlstate.queryCanceled && code !== sqlstate.lockNotAvailable) throw error
    findings.push({
      code: 'check-timed-out',
      severity: 'warning',
      message: `The check of ${check.name} did not end in ${statementTimeoutMs / 1000} s (${redact((error as Error).message)}).`,
      action:
        'Find what holds the lock or the disk: select pid, wait_event, query from pg_stat_activity. Then run this command again.',
    })
  }
}

/** A pooler sends its clients an invented process id (PostgreSQL manual, BackendKeyData). */
async function isPooled({ pool }: Database): Promise<boolean> {
  const client = await pool.connect()
  try {
    const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid')
    return (client as typeof client & { processID: number | null }).processID !== rows[0]?.pid
  } finally {
    client.release()
  }
}

async function canAcceptJobs({ pool }: Database): Promise<boolean> {
  const { rows } = await pool.query<{ can: boolean }>(`
    select coalesce(has_table_privilege(c.oid, 'insert'), false) as can from pg_class c
    join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'accepted' and c.relname = 'job'`)
  return rows[0]?.can ?? false
}

/** Also works for a role that may read only the views. */
async function requireMigrated({ database, query }: CheckContext): Promise<void> {
  try {
    await assertMigrated(database)
  } catch (error) {
    const [schema] = await query(
      sql<{ usable: boolean }>`
        select has_schema_privilege(oid, 'usage') as usable from pg_namespace where nspname = 'accepted'`,
    )
    if (errorCode(error) !== sqlstate.insufficientPrivilege || !schema?.usable) throw error
  }
}

const hiddenFinding = (hidden: readonly string[]): Finding => ({
  code: 'not-visible',
  severity: 'warning',
  message: `The role in DATABASE_URL may not read: ${hidden.join(', ')}.`,
  action: 'Run this command as the role that migrates, with pg_monitor.',
  details: { hidden },
})
