import { sql } from 'kysely'
import { collectOperations } from '../collect-operations.ts'
import { ConfigError } from '../config.ts'
import type { Database } from '../db/database.ts'
import type { JobStatus } from '../db/tables.ts'
import { transact } from '../db/transaction.ts'
import { withBuiltIn } from '../jobs/built-in.ts'
import { type RedriveFilter, type RedrivenJob, redrive } from '../jobs/redrive.ts'
import { transitions } from '../jobs/status.ts'
import { loadConfig } from '../load-config.ts'
import { assertMigrated } from '../migrate/migrate.ts'
import type { Operation } from '../operation.ts'
import { formatCount } from '../primitives/format-count.ts'
import { defineOperations } from '../queue/define-operations.ts'
import type { OutputOptions } from './output-options.ts'
import { parseDuration } from './parse-duration.ts'
import { printLine } from './print-table.ts'
import { withDatabase } from './with-database.ts'

interface ListJobsOptions extends OutputOptions {
  status?: string
  operation?: string
  limit?: string
}

/** Runs `accepted jobs list`: lists jobs of all principals, newest first. */
export async function listJobsCommand(options: ListJobsOptions): Promise<void> {
  const { status, operation } = options
  const statuses = Object.keys(transitions)
  if (status !== undefined && !statuses.includes(status)) {
    throw new ConfigError(`--status must be one of ${statuses.join(', ')}, not '${status}'.`)
  }
  const limit = parseLimit(options.limit) ?? 20
  const jobs = await withDatabase((db) => {
    const columns = ['id', 'operation', 'status', 'principal', 'attempt', 'max_attempts', 'error', 'retry_of'] as const
    let query = db.selectFrom('accepted.job').select([...columns, 'created_at', 'ended_at'])
    if (status !== undefined) query = query.where('status', '=', status as JobStatus)
    if (operation !== undefined) query = query.where('operation', '=', operation)
    return query.orderBy('id', 'desc').limit(limit).execute()
  })
  if (options.json) return console.log(JSON.stringify(jobs))
  if (jobs.length === 0) return console.log('No jobs found.')
  for (const job of jobs) {
    const attempts = `attempt ${job.attempt} of ${job.max_attempts}`
    const error = job.error ? [`${job.error.code}: ${job.error.message}`] : []
    const at = (job.ended_at ?? job.created_at).toISOString()
    printLine([job.id, job.operation, job.status, at, job.principal, attempts, ...error].join('  '))
  }
}

interface RedriveJobsOptions extends OutputOptions {
  config?: string
  operation?: string
  since?: string
  error?: string
  limit?: string
  dryRun?: boolean
}

/** The number of redriven jobs, and the skipped jobs for each reason. */
interface RedriveReport {
  redriven: number
  alreadyRetried: number
  /** The number of skipped jobs, by operation. */
  unknownOperation: Record<string, number>
  /** The ids of the skipped jobs. */
  missingPayload: string[]
}

/** The greatest value of an `integer` in Postgres. */
const maxInteger = 2 ** 31 - 1

/** The maximum number of failed jobs that one transaction reads. */
const batchSize = 100

/** Runs `accepted jobs redrive`: creates a new job for each failed job that the options select. */
export async function redriveJobsCommand(options: RedriveJobsOptions): Promise<void> {
  const { operation, error, dryRun = false } = options
  const maxRedriven = parseLimit(options.limit) ?? maxInteger
  const since = parseSince(options.since)
  const config = await loadConfig(options.config)
  // Failed webhook deliveries can be redriven as well.
  const operations = withBuiltIn(collectOperations(config.operations))
  const report = await withDatabase(async (_db, database) => {
    await assertMigrated(database)
    const filter = { operation, error, since: since === undefined ? since : await toTime(database, since) }
    return redriveAll(database, operations, filter, { maxRedriven, dryRun })
  })
  if (operation !== undefined && !operations.has(operation) && isEmpty(report)) {
    const names = [...operations.keys()].join(', ')
    throw new ConfigError(
      `There is no operation ${operation}. Choose one of these: ${names}. Or leave out --operation.`,
    )
  }
  console.log(options.json ? JSON.stringify({ ...report, dryRun }) : formatReport(report, dryRun))
}

async function redriveAll(
  database: Database,
  operations: ReadonlyMap<string, Operation>,
  filter: RedriveFilter,
  { maxRedriven, dryRun }: { maxRedriven: number; dryRun: boolean },
): Promise<RedriveReport> {
  const report: RedriveReport = { redriven: 0, alreadyRetried: 0, unknownOperation: {}, missingPayload: [] }
  try {
    if (!dryRun) await defineIfAllowed(database, operations)
    let after: string | undefined
    do {
      const options = { ...filter, after, batchSize, maxRedriven: maxRedriven - report.redriven, dryRun }
      const jobs = await transact(database, (trx) => redrive(trx, operations.keys(), options))
      for (const job of jobs) addTo(report, job)
      after = jobs.at(-1)?.id
      if (process.stderr.isTTY) process.stderr.write(`\r${report.redriven} so far`)
    } while (after && report.redriven < maxRedriven)
  } finally {
    if (process.stderr.isTTY) process.stderr.write('\r\u001b[K')
  }
  return report
}

/** An operator may not define operations. The API, the worker or `accepted migrate` has defined them then. */
async function defineIfAllowed(database: Database, operations: ReadonlyMap<string, Operation>): Promise<void> {
  const { rows } = await sql<{ is_allowed: boolean }>`
    select has_function_privilege('accepted.define_operations(jsonb)', 'execute') as is_allowed`.execute(
    database.kysely,
  )
  if (rows[0]?.is_allowed) await defineOperations(database, operations.values())
}

function addTo(report: RedriveReport, { id, operation, outcome }: RedrivenJob): void {
  if (outcome === 'redriven') report.redriven += 1
  else if (outcome === 'already-retried') report.alreadyRetried += 1
  else if (outcome === 'missing-payload') report.missingPayload.push(id)
  else report.unknownOperation[operation] = (report.unknownOperation[operation] ?? 0) + 1
}

const isEmpty = ({ redriven, alreadyRetried, unknownOperation, missingPayload }: RedriveReport) =>
  redriven + alreadyRetried + Object.keys(unknownOperation).length + missingPayload.length === 0

/** The maximum number of ids in the text output. With `--json`, all ids are printed. */
const maxPrintedIds = 10

function formatReport(report: RedriveReport, dryRun: boolean): string {
  const { redriven, alreadyRetried, unknownOperation, missingPayload } = report
  const ids = missingPayload.slice(0, maxPrintedIds).join(', ') + (missingPayload.length > maxPrintedIds ? ', …' : '')
  return [
    `${dryRun ? 'Would redrive' : 'Redrove'} ${formatCount(redriven, 'job')}.`,
    ...(alreadyRetried > 0 ? [`Skipped ${formatCount(alreadyRetried, 'job')}: already retried.`] : []),
    ...Object.entries(unknownOperation).map(
      ([name, count]) => `Skipped ${formatCount(count, 'job')} of ${name}: the operation no longer exists.`,
    ),
    ...(ids ? [`Skipped ${formatCount(missingPayload.length, 'job')}: the payload was not kept (${ids}).`] : []),
  ].join('\n')
}

function parseLimit(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const limit = Number(text)
  if (!Number.isInteger(limit) || limit < 1 || limit > maxInteger) {
    throw new ConfigError(`--limit must be an integer from 1 to ${maxInteger}, not '${text}'.`)
  }
  return limit
}

/** @returns a time, or an age in seconds */
function parseSince(text: string | undefined): Date | number | undefined {
  if (text === undefined) return undefined
  const seconds = parseDuration(text)
  if (seconds !== undefined) return seconds
  const time = new Date(text)
  if (/^\d{4}-\d\d-\d\d/.test(text) && !Number.isNaN(time.getTime())) return time
  throw new ConfigError(
    `--since must be a duration like 24h or 30m, or a time like 2027-02-14T12:00:00Z, not '${text}'.`,
  )
}

/** Converts an age to a time. Uses the clock of the database, because it also set the end times of the jobs. */
async function toTime({ kysely }: Database, since: Date | number): Promise<Date | undefined> {
  if (since instanceof Date) return since
  const { rows } = await sql<{ time: Date }>`select now() - make_interval(secs => ${since}) as time`.execute(kysely)
  return rows[0]?.time
}
