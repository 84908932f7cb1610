import { type RawBuilder, sql } from 'kysely'
import { collectOperations } from '../collect-operations.ts'
import { ConfigError } from '../config.ts'
import type { Database } from '../db/database.ts'
import { transact } from '../db/transaction.ts'
import { withBuiltIn } from '../jobs/built-in.ts'
import { type RedriveFilter, type RedrivenJob, redrive } from '../jobs/redrive.ts'
import { loadConfig } from '../load-config.ts'
import { assertMigrated } from '../migrate/migrate.ts'
import type { Operation } from '../operation.ts'
import { formatCount, formatNumber } from '../primitives/format-count.ts'
import { defineOperations } from '../queue/define-operations.ts'
import type { OutputOptions } from './output-options.ts'
import { maxInteger, parseLimit, parseTime } from './parse-options.ts'
import { createLiveLine } from './progress-bar.ts'
import { withDatabase } from './with-database.ts'

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

/** The maximum number of failed jobs that one transaction reads. */
const batchSize = 100

/** Runs `accepted jobs redrive`: creates a new job for each failed job that the options select. */
export async function redriveJobsCommand(options: RedriveJobsOptions): Promise<void> {
  const { operation, error, dryRun = false } = options
  const maxRedriven = parseLimit(options.limit) ?? maxInteger
  const since = parseTime('--since', options.since)
  const config = await loadConfig(options.config)
  // Failed webhook deliveries can be redriven as well.
  const operations = withBuiltIn(collectOperations(config.operations))
  const report = await withDatabase(async (_db, database) => {
    await assertMigrated(database)
    const filter = { operation, error, since: since && (await readTime(database, since)) }
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

interface RedriveLimits {
  maxRedriven: number
  dryRun: boolean
}

/** Redrives the jobs. On a terminal, counts them first, so that a bar can show the progress. */
async function redriveAll(
  database: Database,
  operations: ReadonlyMap<string, Operation>,
  filter: RedriveFilter,
  { maxRedriven, dryRun }: RedriveLimits,
): Promise<RedriveReport> {
  const line = createLiveLine()
  const run = (isDryRun: boolean, onBatch: (redriven: number) => void) =>
    redriveBatches(database, operations, filter, { maxRedriven, dryRun: isDryRun }, onBatch)
  try {
    if (dryRun) return await run(true, (redriven) => line.say(`Counting the failed jobs: ${formatNumber(redriven)}`))
    await defineIfAllowed(database, operations)
    const total = process.stderr.isTTY
      ? (await run(true, (redriven) => line.say(`Counting the failed jobs: ${formatNumber(redriven)}`))).redriven
      : 0
    return await run(false, (redriven) =>
      line.show(total === 0 ? 100 : (100 * redriven) / total, `${formatNumber(redriven)} of ${formatNumber(total)}`),
    )
  } finally {
    line.clear()
  }
}

async function redriveBatches(
  database: Database,
  operations: ReadonlyMap<string, Operation>,
  filter: RedriveFilter,
  { maxRedriven, dryRun }: RedriveLimits,
  onBatch: (redriven: number) => void,
): Promise<RedriveReport> {
  const report: RedriveReport = { redriven: 0, alreadyRetried: 0, unknownOperation: {}, missingPayload: [] }
  let after: string | undefined
  do {
    const options = { ...filter, after, batchSize, maxRedriven: maxRedriven - report.redriven, dryRun }
    const jobs = await transact(database, (trx) => redrive(trx, operations.keys(), options))
    for (const job of jobs) addTo(report, job)
    after = jobs.at(-1)?.id
    onBatch(report.redriven)
  } while (after && report.redriven < maxRedriven)
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

async function readTime({ kysely }: Database, time: RawBuilder<Date>): Promise<Date | undefined> {
  const { rows } = await sql<{ time: Date }>`select ${time} as time`.execute(kysely)
  return rows[0]?.time
}
