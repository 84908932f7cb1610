import { sql } from 'kysely'
import { ConfigError, loadConfig } from '../config.ts'
import { prepareQueues, startBoss } from '../db/boss.ts'
import type { Database } from '../db/database.ts'
import { assertMigrated } from '../db/migrate.ts'
import { createNotifier } from '../db/notifier.ts'
import type { JobState } from '../db/tables.ts'
import { transact } from '../db/transaction.ts'
import { type RedriveFilter, redrive } from '../jobs/redrive.ts'
import { moves } from '../jobs/state.ts'
import { deliverWebhook } from '../jobs/webhook-delivery.ts'
import { type Operation, operationsIn } from '../operation.ts'
import { withDatabase } from './with-database.ts'

interface Output {
  json?: boolean
}

interface Listed extends Output {
  state?: string
  operation?: string
  limit?: string
}

/** `accepted jobs list`: everybody's jobs, newest first. */
export async function listJobs(options: Listed): Promise<void> {
  const { state, operation } = options
  const states = Object.keys(moves)
  if (state !== undefined && !states.includes(state)) {
    throw new ConfigError(`There is no state ${state}: there are ${states.join(', ')}.`)
  }
  const limit = countOf(options.limit) ?? 20
  const jobs = await withDatabase((db) => {
    const columns = ['id', 'operation', 'state', 'principal', 'attempt', 'max_attempts', 'error', 'retry_of'] as const
    let query = db.selectFrom('accepted.job').select([...columns, 'created_at', 'ended_at'])
    if (state !== undefined) query = query.where('state', '=', state as JobState)
    if (operation !== undefined) query = query.where('operation', '=', operation)
    return query.orderBy('id', 'desc').limit(limit).execute()
  })
  if (options.json) return console.log(JSON.stringify(jobs))
  if (jobs.length === 0) return console.log('There are no such jobs.')
  for (const job of jobs) {
    const attempts = `attempt ${job.attempt} of ${job.max_attempts}`
    const error = job.error ? [`${job.error.code}: ${job.error.message}`] : []
    const at = (job.ended_at ?? job.created_at).toISOString()
    console.log([job.id, job.operation, job.state, at, job.principal, attempts, ...error].join('  '))
  }
}

interface Redrive extends Output {
  config?: string
  operation?: string
  since?: string
  error?: string
  limit?: string
  dryRun?: boolean
}

/** What came of a redrive. */
interface Report {
  redriven: number
  retried: number
  /** How many, by the name of the operation. */
  operationGone: Record<string, number>
  /** Their ids. */
  payloadNotKept: string[]
}

/** Failed jobs in one transaction. */
const batchSize = 100

/** `accepted jobs redrive`: runs failed jobs again, as new ones. */
export async function redriveJobs(options: Redrive): Promise<void> {
  const { operation, error, dryRun = false } = options
  const most = countOf(options.limit) ?? Number.POSITIVE_INFINITY
  const since = sinceOf(options.since)
  const config = await loadConfig(options.config)
  // What could not be delivered can be, too.
  const operations = new Map([...operationsIn(config.operations), [deliverWebhook.name, deliverWebhook]])
  const report = await withDatabase(async (_db, database) => {
    await assertMigrated(database)
    const filter = { operation, error, since: since === undefined ? since : await timeOf(database, since) }
    return redriveAll(database, operations, filter, { most, dryRun })
  })
  const found = report.redriven + report.retried + report.payloadNotKept.length
  if (operation !== undefined && !operations.has(operation) && found + Object.keys(report.operationGone).length === 0) {
    throw new ConfigError(`There is no operation ${operation}, and no failed job of one.`)
  }
  console.log(options.json ? JSON.stringify({ ...report, dryRun }) : describe(report, dryRun))
}

async function redriveAll(
  database: Database,
  operations: ReadonlyMap<string, Operation>,
  filter: RedriveFilter,
  { most, dryRun }: { most: number; dryRun: boolean },
): Promise<Report> {
  const boss = await startBoss(database, { supervise: false, onError: ({ message }) => console.error(message) })
  const hints = createNotifier(database)
  const report: Report = { redriven: 0, retried: 0, operationGone: {}, payloadNotKept: [] }
  try {
    if (!dryRun) await prepareQueues(boss, operations.values())
    let after: string | undefined
    do {
      const options = { ...filter, after, batchSize, most: most - report.redriven, dryRun }
      const batch = await transact(database, (trx) => redrive(boss, trx, operations, options))
      after = batch.last
      report.redriven += batch.redriven.length
      report.retried += batch.retried.length
      for (const job of batch.operationGone) {
        report.operationGone[job.operation] = (report.operationGone[job.operation] ?? 0) + 1
      }
      report.payloadNotKept.push(...batch.payloadNotKept.map(({ id }) => id))
      if (!dryRun) hints.notify('work', new Set(batch.redriven.map((job) => job.operation)))
      if (process.stderr.isTTY) process.stderr.write(`\r${report.redriven} so far`)
    } while (after && report.redriven < most)
  } finally {
    if (process.stderr.isTTY) process.stderr.write('\r\u001b[K')
    await hints.flush()
    await boss.stop({ graceful: false })
  }
  return report
}

/** Ids that are named, at most; `--json` has them all. */
const mostNamed = 10

function describe({ redriven, retried, operationGone, payloadNotKept }: Report, dryRun: boolean): string {
  const gone = Object.entries(operationGone)
  const named = payloadNotKept.slice(0, mostNamed).join(', ') + (payloadNotKept.length > mostNamed ? ', …' : '')
  return [
    `${dryRun ? 'Would redrive' : 'Redrove'} ${counted(redriven)}.`,
    ...(retried > 0 ? [`Left ${counted(retried)}: retried already.`] : []),
    ...gone.map(([name, count]) => `Left ${counted(count)} of ${name}: there is no such operation any more.`),
    ...(named ? [`Left ${counted(payloadNotKept.length)}: the payload has not been kept (${named}).`] : []),
  ].join('\n')
}

const counted = (count: number) => `${count} ${count === 1 ? 'job' : 'jobs'}`

function countOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const count = Number(text)
  if (!Number.isSafeInteger(count) || count < 1) throw new ConfigError(`--limit must be 1 or more, not '${text}'.`)
  return count
}

const secondsIn: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 }

/** A time, or how many seconds ago. */
function sinceOf(text: string | undefined): Date | number | undefined {
  if (text === undefined) return undefined
  const [, amount, unit = ''] = text.match(/^(\d+)([smhd])$/) ?? []
  if (amount !== undefined) return Number(amount) * (secondsIn[unit] as number)
  const time = new Date(text)
  if (/^\d{4}-\d\d-\d\d/.test(text) && !Number.isNaN(time.getTime())) return time
  throw new ConfigError(`--since must be like 24h, 30m or 2027-02-14T12:00:00Z, not '${text}'.`)
}

/** By the clock of the database, which wrote when the jobs ended. */
async function timeOf({ kysely }: Database, since: Date | number): Promise<Date | undefined> {
  if (since instanceof Date) return since
  const { rows } = await sql<{ time: Date }>`select now() - make_interval(secs => ${since}) as time`.execute(kysely)
  return rows[0]?.time
}
