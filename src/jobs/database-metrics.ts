import { sql } from 'kysely'
import type { Database } from '../db/database.ts'
import { runWithGenericPlan } from '../db/plan-settings.ts'
import type { Operation } from '../operation.ts'
import type { MetricsRegistry } from '../primitives/metrics-registry.ts'
import { settledWithin } from '../primitives/timeout.ts'
import { parseRate } from '../rate.ts'

/** A row of `accepted.operation_metrics`. */
export interface OperationMetrics {
  operation: string
  ready: number
  oldest_seconds: number
  workers: number
  is_paused: boolean
  /** Null for an operation without a limit, as the others are for one with a limit. */
  limited_keys: number | null
  waiting_principals: number | null
  longest_seconds: number
  shortest_seconds: number
}

/** Reads the backlog of each operation. Reads at most 500 waiting jobs of each, and one job of 200 principals. */
export async function readOperationMetrics(
  { kysely }: Pick<Database, 'kysely'>,
  operations: readonly string[],
): Promise<OperationMetrics[]> {
  const statement = sql<OperationMetrics>`
    select operation, ready::float8, oldest_seconds, workers::float8, is_paused, limited_keys::float8,
      waiting_principals, longest_seconds, shortest_seconds
    from accepted.operation_metrics(${operations}::text[])`
  return (await runWithGenericPlan(kysely, statement)).rows
}

/** The row of `accepted.database_metrics`. */
export interface DatabaseMetrics {
  workers: number
  draining_workers: number
  silent_workers: number
  oldest_transaction_seconds: number
  xmin_age: number
  hidden_sessions: number
  partitions_ahead: number
  dead_rows: Record<string, number>
  enabled_endpoints: number
  failing_endpoints: number
  disabled_endpoints: number
}

/** Reads the state of the database: workers, transactions, partitions, dead rows and webhook endpoints. */
export async function readDatabaseMetrics({ kysely }: Pick<Database, 'kysely'>): Promise<DatabaseMetrics> {
  const statement = sql<DatabaseMetrics>`
    select workers::float8, draining_workers::float8, silent_workers::float8, oldest_transaction_seconds,
      xmin_age::float8, hidden_sessions::float8, partitions_ahead, dead_rows, enabled_endpoints::float8,
      failing_endpoints::float8, disabled_endpoints::float8
    from accepted.database_metrics()`
  return (await runWithGenericPlan(kysely, statement)).rows[0] as DatabaseMetrics
}

const cacheMs = 5_000
const timeoutMs = 1_000

/**
 * Adds the gauges that are read from the database. Every API and worker process has them, so that they remain when all
 * workers are gone. Their values are cached for 5 seconds, so that frequent scrapes cost Postgres little. The gauges are
 * left out while Postgres does not answer within a second.
 */
export function addDatabaseGauges(
  registry: MetricsRegistry,
  database: Database,
  operations: readonly Operation[],
): void {
  const ofOperations = addOperationGauges(registry, operations)
  const ofDatabase = addStateGauges(registry)
  ofDatabase.reset()
  const names = operations.map(({ name }) => name)
  let reading: Promise<void> | undefined
  let readAt = Number.NEGATIVE_INFINITY
  const reset = () => {
    ofOperations.reset()
    ofDatabase.reset()
  }
  const read = async () => {
    try {
      const [rows, state] = await Promise.all([readOperationMetrics(database, names), readDatabaseMetrics(database)])
      reset()
      for (const row of rows) ofOperations.set(row)
      ofDatabase.set(state)
      readAt = performance.now()
    } catch {
      reset()
    }
    reading = undefined
  }
  registry.beforeRead(async () => {
    if (performance.now() - readAt < cacheMs) return
    reading ??= read()
    if (!(await settledWithin(reading, timeoutMs))) reset()
  })
}

/** Adds a gauge that has the same value in all processes. */
const addGauge = <Label extends string>(
  { labeledGauge }: MetricsRegistry,
  name: string,
  help: string,
  labels: readonly Label[],
) => labeledGauge(name, help, labels, undefined, 'max')

function addOperationGauges(registry: MetricsRegistry, operations: readonly Operation[]) {
  const add = <Label extends string = never>(name: string, help: string, labels: readonly Label[] = []) =>
    addGauge(registry, name, help, ['operation', ...labels] as const)
  const ready = add('accepted_jobs_ready', 'Jobs that are due and that no worker has claimed')
  const age = add(
    'accepted_oldest_ready_job_age_seconds',
    'How long the oldest of the next 500 jobs in line has been due; 0 when no job is due',
  )
  const principals = add('accepted_waiting_principals', 'Principals that have due jobs, up to 200')
  const waits = add('accepted_principal_wait_seconds', 'How long the first due job of a principal has waited', ['rank'])
  const workers = add('accepted_operation_workers', 'Live workers that claim jobs of the operation')
  const paused = add('accepted_operation_paused', '1 while the operation is paused')
  const limitedKeys = add('accepted_limited_keys', 'Keys whose jobs wait for the limit of the operation, up to 200')
  const rate = add('accepted_limit_starts_per_second', 'How many jobs of a key may start by the limit of the operation')
  for (const { name, limit } of operations) {
    const parsed = limit?.rate ? parseRate(limit.rate) : undefined
    if (parsed) rate.set({ operation: name }, parsed.starts / parsed.periodSeconds)
  }
  return {
    set({ operation, ...row }: OperationMetrics) {
      ready.set({ operation }, row.ready)
      age.set({ operation }, row.oldest_seconds)
      workers.set({ operation }, row.workers)
      paused.set({ operation }, row.is_paused ? 1 : 0)
      if (row.limited_keys !== null) limitedKeys.set({ operation }, row.limited_keys)
      if (row.waiting_principals === null) return
      principals.set({ operation }, row.waiting_principals)
      waits.set({ operation, rank: 'longest' }, row.longest_seconds)
      waits.set({ operation, rank: 'shortest' }, row.shortest_seconds)
    },
    reset() {
      for (const gauge of [ready, age, principals, waits, workers, paused, limitedKeys]) gauge.reset()
    },
  }
}

function addStateGauges(registry: MetricsRegistry) {
  const add = <Label extends string = never>(name: string, help: string, labels: readonly Label[] = []) =>
    addGauge(registry, name, help, labels)
  const workers = add('accepted_workers', 'Worker processes, by status', ['status'])
  const transaction = add(
    'accepted_oldest_transaction_age_seconds',
    'How long the oldest transaction has been open; vacuum keeps the rows that died since',
  )
  const xmin = add('accepted_xmin_age_transactions', 'Transactions since the oldest snapshot')
  const hidden = add('accepted_hidden_sessions', 'Sessions whose transaction age Postgres hides')
  const partitions = add(
    'accepted_partitions_ahead',
    'For how many days after today the status table has partitions; -1 if not even for today',
  )
  const deadRows = add('accepted_dead_rows', 'Rows that vacuum has not removed yet', ['table'])
  const endpoints = add('accepted_webhook_endpoints', 'Webhook endpoints, by state', ['state'])
  return {
    set(state: DatabaseMetrics) {
      workers.set({ status: 'ready' }, state.workers)
      workers.set({ status: 'draining' }, state.draining_workers)
      workers.set({ status: 'silent' }, state.silent_workers)
      transaction.set(state.oldest_transaction_seconds)
      xmin.set(state.xmin_age)
      hidden.set(state.hidden_sessions)
      partitions.set(state.partitions_ahead)
      for (const [table, rows] of Object.entries(state.dead_rows)) deadRows.set({ table }, rows)
      endpoints.set({ state: 'enabled' }, state.enabled_endpoints)
      endpoints.set({ state: 'failing' }, state.failing_endpoints)
      endpoints.set({ state: 'disabled' }, state.disabled_endpoints)
    },
    reset() {
      for (const gauge of [workers, deadRows, endpoints]) gauge.reset()
      // prom-client resets a gauge without labels to 0, which would be a wrong value.
      for (const gauge of [transaction, xmin, hidden, partitions]) gauge.remove()
    },
  }
}
