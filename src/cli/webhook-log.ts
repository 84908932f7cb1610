import { sql } from 'kysely'
import { validate as isUuid } from 'uuid'
import { ConfigError } from '../config.ts'
import type { DeliveryLogRow } from '../db/views.ts'
import { formatNumber } from '../primitives/format-count.ts'
import { callFunction } from './call-function.ts'
import { type ListOptions, printList } from './list.ts'
import type { OutputOptions } from './output-options.ts'
import { unknownWebhook } from './webhook-commands.ts'
import { withDatabase } from './with-database.ts'

const maxRows = 100

/** Runs `accepted webhooks log`: lists the last attempts to deliver to one endpoint or to all, newest first. */
export async function logWebhooksCommand(endpoint: string | undefined, options: ListOptions): Promise<void> {
  if (endpoint !== undefined && !isUuid(endpoint)) throw unknownWebhook(endpoint)
  const condition = endpoint === undefined ? sql`true` : sql`endpoint_id = ${endpoint}`
  await printList<DeliveryLogRow>(
    {
      columns: [
        { heading: 'ID', cell: (row) => row.delivery_id },
        { heading: 'ENDPOINT', cell: (row) => row.endpoint_id, whenNarrow: 'omit-first' },
        { heading: 'JOB', cell: (row) => row.job_id, whenNarrow: 'omit-first' },
        { heading: 'ATTEMPT', cell: ({ attempt }) => attempt, whenNarrow: 'omit' },
        { heading: 'AT', cell: ({ at }) => at },
        {
          heading: 'STATUS',
          cell: (row) => row.http_status,
          style: (row) => (row.error_code === null ? 'green' : 'red'),
        },
        {
          heading: 'DURATION',
          cell: (row) => (row.duration_ms === null ? '' : `${formatNumber(row.duration_ms)} ms`),
          whenNarrow: 'omit',
        },
        { heading: 'ERROR', cell: (row) => row.error_code, whenNarrow: 'cut' },
        { heading: 'ANSWER', cell: ({ answer }) => answer, whenNarrow: 'cut' },
      ],
      read: async (db) => {
        const statement = sql<DeliveryLogRow>`
          select * from accepted.delivery_log where ${condition} order by at desc limit ${maxRows}`
        return (await statement.execute(db)).rows
      },
      whenEmpty: 'No attempt to deliver has ended.',
      key: (row) => `${row.delivery_id} ${row.attempt}`,
      isPage: true,
    },
    options,
  )
}

/** Runs `accepted webhooks test`: delivers a test event to an endpoint. */
export async function testWebhookCommand(endpoint: string, options: OutputOptions): Promise<void> {
  if (!isUuid(endpoint)) throw unknownWebhook(endpoint)
  const row = await withDatabase((db) =>
    callFunction(db, sql<{ id: string }>`select accepted.deliver_webhook(${endpoint}::uuid) as id`),
  )
  printDelivery(row?.id as string, options)
}

/** Runs `accepted webhooks resend`: delivers the same event once more, with the same webhook-id. */
export async function resendWebhookCommand(delivery: string, options: OutputOptions): Promise<void> {
  const statement = sql<{ id: string }>`
    select accepted.deliver_webhook(endpoint_id, job_id) as id from (
      select endpoint_id, job_id from accepted.delivery_log
      where delivery_id = ${delivery}::uuid and job_id is not null limit 1
    ) logged`
  const row = isUuid(delivery) ? await withDatabase((db) => callFunction(db, statement)) : undefined
  if (row) return printDelivery(row.id, options)
  throw new ConfigError(
    `The log has no attempt of a delivery ${delivery} that reported a job. \`accepted webhooks log\` lists them.`,
  )
}

function printDelivery(id: string, { json }: OutputOptions): void {
  console.log(json ? JSON.stringify({ id }) : `Enqueued the delivery ${id}. Its attempts: accepted webhooks log`)
}
