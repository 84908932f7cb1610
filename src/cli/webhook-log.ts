import { sql } from 'kysely'
import { validate as isUuid } from 'uuid'
import { ConfigError } from '../config.ts'
import { formatNumber } from '../primitives/format-count.ts'
import type { OutputOptions } from './output-options.ts'
import { printTable } from './print-table.ts'
import { withDatabase } from './with-database.ts'

interface LogRow {
  endpoint_id: string
  delivery_id: string
  job_id: string | null
  attempt: number
  at: Date
  http_status: number | null
  error_code: string | null
  error_message: string | null
  duration_ms: number | null
  answer: string | null
}

const maxRows = 100
/** A longer answer would break the lines of a table. `--json` has the whole text. */
const maxShownAnswer = 60

/** Runs `accepted webhooks log`: lists the last attempts to deliver to one endpoint or to all, newest first. */
export async function logWebhooksCommand(endpoint: string | undefined, options: OutputOptions): Promise<void> {
  if (endpoint !== undefined && !isUuid(endpoint)) throw new ConfigError(`There is no webhook endpoint ${endpoint}.`)
  const rows = await withDatabase(async (db) => {
    const statement = sql<LogRow>`
      select * from accepted.delivery_log where ${endpoint === undefined ? sql`true` : sql`endpoint_id = ${endpoint}`}
      order by at desc limit ${maxRows}`
    return (await statement.execute(db)).rows
  })
  if (options.json) return console.log(JSON.stringify(rows))
  if (rows.length === 0) return console.log('No attempt to deliver has ended.')
  printTable(
    ['DELIVERY', 'ENDPOINT', 'JOB', 'ATTEMPT', 'AT', 'STATUS', 'TIME', 'ERROR', 'ANSWER'],
    rows.map((row) => [
      ...[row.delivery_id, row.endpoint_id, row.job_id, row.attempt, row.at.toISOString(), row.http_status],
      ...[row.duration_ms === null ? '' : `${formatNumber(row.duration_ms)} ms`, row.error_code],
      row.answer?.slice(0, maxShownAnswer),
    ]),
  )
}
