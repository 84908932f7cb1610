import { sql } from 'kysely'
import { validate as isUuid } from 'uuid'
import { ConfigError } from '../config.ts'
import { formatNumber } from '../primitives/format-count.ts'
import { callFunction } from './call-function.ts'
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
    ['DELIVERY', 'ENDPOINT', 'JOB', 'ATTEMPT', 'AT', 'STATUS', 'DURATION', 'ERROR', 'ANSWER'],
    rows.map((row) => [
      ...[row.delivery_id, row.endpoint_id, row.job_id, row.attempt, row.at.toISOString(), row.http_status],
      ...[row.duration_ms === null ? '' : `${formatNumber(row.duration_ms)} ms`, row.error_code],
      row.answer?.slice(0, maxShownAnswer),
    ]),
  )
}

/** Runs `accepted webhooks test`: delivers a test event to an endpoint. */
export async function testWebhookCommand(endpoint: string, options: OutputOptions): Promise<void> {
  const [row] = await callFunction(sql<{ id: string }>`select accepted.deliver_webhook(${endpoint}::uuid) as id`)
  printDelivery(row?.id as string, options)
}

/** Runs `accepted webhooks resend`: delivers the same event once more, with the same webhook-id. */
export async function resendWebhookCommand(delivery: string, options: OutputOptions): Promise<void> {
  const [row] = await callFunction(sql<{ id: string }>`
    select accepted.deliver_webhook(endpoint_id, job_id) as id from (
      select endpoint_id, job_id from accepted.delivery_log
      where delivery_id = ${delivery}::uuid and job_id is not null limit 1
    ) logged`)
  if (row) return printDelivery(row.id, options)
  throw new ConfigError(
    `The log has no attempt of a delivery ${delivery} that reported a job. \`accepted webhooks log\` lists them.`,
  )
}

function printDelivery(id: string, { json }: OutputOptions): void {
  console.log(json ? JSON.stringify({ id }) : `Enqueued the delivery ${id}. Its attempts: accepted webhooks log`)
}
