import { type RawBuilder, sql } from 'kysely'
import { validate as isUuid } from 'uuid'
import type { DeliveryLogRow } from '../../../db/views.ts'
import { ProblemError } from '../../../errors.ts'
import { duration } from '../../pages/duration.ts'
import { actionForm, actions, badge, facts, section, table } from '../components.ts'
import type { ConsoleContext } from '../context.ts'
import { ago, count, time } from '../format.ts'
import { type Html, html } from '../html.ts'
import type { ConsolePage } from '../page.ts'

const refreshSeconds = 5
const maxEndpoints = 200
const maxAttempts = 100

interface EndpointRow {
  id: string
  url: string
  principal: string | null
  event_types: string[]
  operations: string[] | null
  created_at: Date
  secret_rotated_at: Date | null
  disabled_at: Date | null
  disabled_reason: string | null
  consecutive_failures: number
  opened_at: Date | null
  probe_at: Date | null
}

const columns = sql`id, url, principal, event_types, operations, created_at, secret_rotated_at, disabled_at, disabled_reason,
  consecutive_failures, opened_at, probe_at`

/** The webhook endpoints with their deliveries. An operator sends a delivery again, or a test. */
export const webhooksPage: ConsolePage = {
  path: '/webhooks',
  label: 'Webhooks',
  addRoutes(app, context) {
    app.get('/webhooks', async (_request, reply) => {
      const rows = await readEndpoints(context, sql`true`)
      return context.send(reply, {
        title: 'Webhooks',
        refreshSeconds,
        body: html`<div class="card" id="endpoints" data-live>${endpointTable(context, rows)}</div>`,
      })
    })
    app.get<{ Params: { id: string } }>('/webhooks/:id', async ({ params: { id } }, reply) => {
      const [endpoint] = isUuid(id) ? await readEndpoints(context, sql`id = ${id}`) : []
      if (!endpoint) throw new ProblemError('not-found', 'There is no webhook endpoint with this id')
      const { rows } = await context.read((trx) =>
        sql<DeliveryLogRow>`
          select * from accepted.delivery_log where endpoint_id = ${id} order by at desc limit ${maxAttempts}`.execute(
          trx,
        ),
      )
      const page = `${context.base}/webhooks/${id}`
      return context.send(reply, {
        title: endpoint.url,
        above: html`<a href="${context.base}/webhooks">Webhooks</a>`,
        beside: badge(statusOf(endpoint)),
        refreshSeconds,
        body: html`<div id="state" data-live>${stateOf(context, endpoint)}</div>
${actions([actionForm({ action: `${page}/test`, back: page, label: 'Send a test' })])}
${section('Attempts to deliver, the newest first', attemptTable(context, page, rows), { id: 'log' })}`,
      })
    })
    context.action(app, '/webhooks/:id/test', async (trx, { params: { id } }) => {
      await sql`select accepted.deliver_webhook(${id}::uuid)`.execute(trx)
      return 'A test event is on its way. Its attempts show in the log below.'
    })
    context.action(app, '/webhooks/:id/resend', async (trx, { params: { id }, body }) => {
      await sql`select accepted.deliver_webhook(${id}::uuid, ${body.job ?? ''}::uuid)`.execute(trx)
      return 'The delivery is on its way again, with the same webhook-id.'
    })
  },
}

async function readEndpoints(context: ConsoleContext, condition: RawBuilder<unknown>): Promise<EndpointRow[]> {
  const { rows } = await context.read((trx) =>
    sql<EndpointRow>`
      select ${columns} from accepted.webhook_endpoint where ${condition} order by id limit ${maxEndpoints}`.execute(
      trx,
    ),
  )
  return rows
}

const statusOf = ({ disabled_at: disabledAt, opened_at: openedAt }: EndpointRow) =>
  disabledAt ? 'disabled' : openedAt ? 'failing' : 'enabled'

const endpointTable = ({ base }: ConsoleContext, rows: readonly EndpointRow[]): Html =>
  table(
    ['Endpoint', 'Status', 'Events', 'Operations', 'Jobs of', 'Added'],
    rows.map((row) => [
      html`<a href="${base}/webhooks/${row.id}">${row.url}</a>`,
      ...[badge(statusOf(row)), eventsOf(row), row.operations?.join(', ') ?? 'all', row.principal ?? 'all principals'],
      ago(row.created_at),
    ]),
    { caption: 'Webhook endpoints', empty: html`There is no endpoint. To add one: <code>accepted webhooks add</code>` },
  )

const isAhead = (at: Date | null) => at !== null && at.getTime() > Date.now()

const eventsOf = ({ event_types: types }: EndpointRow) => types.map((type) => type.replace(/^job\./, '')).join(', ')

const stateOf = ({ base }: ConsoleContext, row: EndpointRow): Html =>
  html`${
    row.disabled_at &&
    html`<p class="notice error"><strong>Disabled</strong> ${ago(row.disabled_at)}: ${row.disabled_reason ?? 'no reason was given'}. Nothing is delivered.</p>`
  }${
    row.opened_at &&
    !row.disabled_at &&
    html`<p class="notice warning"><strong>Failing</strong> for ${duration((Date.now() - row.opened_at.getTime()) / 1000)}, ${count(row.consecutive_failures)} failures in a row. One delivery at a time is tried, the next ${isAhead(row.probe_at) ? ago(row.probe_at) : 'now'}. The others wait.</p>`
  }${facts([
    ['Events', eventsOf(row)],
    ['Operations', row.operations?.join(', ') ?? 'all'],
    ['Jobs of', row.principal ?? 'all principals'],
    ['Added', time(row.created_at)],
    ['Secret rotated', row.secret_rotated_at && time(row.secret_rotated_at)],
    [
      'Deliveries',
      html`<a href="${base}/jobs?principal=${encodeURIComponent(`webhook:${row.id}`)}">All jobs that deliver to it</a>`,
    ],
  ])}`

const attemptTable = ({ base }: ConsoleContext, page: string, rows: readonly DeliveryLogRow[]): Html =>
  table(
    ['When', 'Job', { label: 'Attempt', isNumber: true }, 'Answer', { label: 'Took', isNumber: true }, 'Delivery'],
    rows.map((row) => [
      ago(row.at),
      row.job_id === null ? 'test' : html`<a href="${base}/jobs/${row.job_id}">${row.job_id}</a>`,
      count(row.attempt),
      answerOf(row),
      row.duration_ms === null ? '–' : duration(row.duration_ms / 1000),
      html`<a href="${base}/jobs/${row.delivery_id}">details</a> ${
        row.job_id !== null &&
        actionForm({ action: `${page}/resend`, back: page, label: 'Send again', hidden: { job: row.job_id } })
      }`,
    ]),
    { caption: 'Attempts to deliver', empty: 'No attempt to deliver has ended.' },
  )

const answerOf = (row: DeliveryLogRow): Html =>
  html`${badge(row.error_code === null ? 'succeeded' : 'failed')} ${
    row.http_status ?? ''
  } ${row.error_code !== null && html`${row.error_message} <code>${row.error_code}</code>`}${
    row.answer && html`<details><summary>Body</summary><pre>${row.answer}</pre></details>`
  }`
