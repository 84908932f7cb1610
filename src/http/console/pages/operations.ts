import { type Selectable, sql } from 'kysely'
import type { OperationTable } from '../../../db/tables.ts'
import type { BacklogRow } from '../../../db/views.ts'
import { ProblemError } from '../../../errors.ts'
import { duration } from '../../pages/duration.ts'
import { actionForm, actions, badge, facts, section, table } from '../components.ts'
import type { ConsoleContext } from '../context.ts'
import { ago, count, time } from '../format.ts'
import { type Html, html } from '../html.ts'
import type { ConsolePage } from '../page.ts'

const refreshSeconds = 5
const maxReasonLength = 500

type Policy = Selectable<OperationTable>
type Row = Policy & BacklogRow & { oldest_seconds: number | null }

/** The operations with their policies. An operator pauses and resumes them here. */
export const operationsPage: ConsolePage = {
  path: '/operations',
  label: 'Operations',
  addRoutes(app, context) {
    app.get('/operations', async (_request, reply) => {
      const { rows } = await context.read((trx) =>
        sql<Row>`
          select operation.*, backlog.ready, backlog.deferred, backlog.running, backlog.workers
          from accepted.operation join accepted.backlog on backlog.operation = operation.name order by name`.execute(
          trx,
        ),
      )
      return context.send(reply, {
        title: 'Operations',
        refreshSeconds,
        body: html`<div class="card" id="operations" data-live>${operationTable(context, rows)}</div>`,
      })
    })
    app.get<{ Params: { name: string } }>('/operations/:name', async (request, reply) => {
      const { rows } = await context.read((trx) =>
        sql<Row>`
          select operation.*, backlog.*, extract(epoch from oldest)::float8 as oldest_seconds
          from accepted.operation join accepted.backlog on backlog.operation = operation.name
          where name = ${request.params.name}`.execute(trx),
      )
      const [operation] = rows
      if (!operation) throw new ProblemError('not-found', 'There is no operation with this name')
      return context.send(reply, {
        title: operation.name,
        above: html`<a href="${context.base}/operations">Operations</a>`,
        beside: operation.paused_at && badge('paused'),
        refreshSeconds,
        body: html`<p>${operation.summary}</p>
<div id="state" data-live>${stateOf(operation)}</div>
<div id="acts" data-live>${actsOf(context, operation)}</div>
${section('Policy', policyOf(operation))}
<p><a href="${context.base}/jobs?operation=${encodeURIComponent(operation.name)}">Jobs of this operation</a></p>`,
      })
    })
    context.action(app, '/operations/:name/pause', async (trx, { params: { name }, body }) => {
      const reason = body.reason?.trim().slice(0, maxReasonLength)
      await sql`select accepted.pause(${name}, ${reason || null})`.execute(trx)
      return `${name} is paused. Workers start none of its jobs within a second; running jobs continue.`
    })
    context.action(app, '/operations/:name/resume', async (trx, { params: { name } }) => {
      await sql`select accepted.resume(${name})`.execute(trx)
      return `${name} is resumed.`
    })
  },
}

const operationTable = ({ base }: ConsoleContext, rows: readonly Row[]): Html =>
  table(
    [
      'Operation',
      'What it does',
      ...['Ready', 'Deferred', 'Running', 'Workers', 'Attempts', 'Timeout'].map((label) => ({ label, isNumber: true })),
    ],
    rows.map((row) => [
      html`<a href="${base}/operations/${encodeURIComponent(row.name)}">${row.name}</a> ${row.paused_at && badge('paused')}`,
      row.summary === row.name ? '–' : row.summary,
      ...[count(row.ready), count(row.deferred), count(row.running), count(row.workers)],
      ...[count(row.retry_limit + 1), duration(row.timeout_seconds)],
    ]),
    { caption: 'Operations with their backlog', empty: 'No operation is defined yet.' },
  )

const stateOf = (row: Row): Html =>
  html`${
    row.paused_at &&
    html`<p class="notice warning"><strong>Paused</strong> ${ago(row.paused_at)}. ${row.paused_reason ?? 'No reason was given.'}</p>`
  }${facts([
    ['Ready', count(row.ready)],
    ['Deferred', count(row.deferred)],
    ['Running', count(row.running)],
    ['Oldest ready', row.oldest_seconds === null ? '–' : duration(row.oldest_seconds)],
    ['Workers', count(row.workers)],
    ['In quarantine', row.quarantined !== '0' && count(row.quarantined)],
    ['Keys at their limit', row.held_keys !== '0' && count(row.held_keys)],
  ])}`

function actsOf({ base }: ConsoleContext, { name, paused_at }: Policy): Html {
  const page = `${base}/operations/${encodeURIComponent(name)}`
  return actions([
    paused_at
      ? actionForm({ action: `${page}/resume`, back: page, label: 'Resume' })
      : actionForm({
          ...{ action: `${page}/pause`, back: page, label: 'Pause' },
          explanation: 'Workers start none of its jobs until it is resumed. Requests are still accepted.',
          fields: [{ name: 'reason', label: 'Reason, for the others', maxLength: maxReasonLength }],
        }),
  ])
}

const policyOf = (row: Policy): Html =>
  facts([
    ['Attempts', count(row.retry_limit + 1)],
    ['Delay before a retry', retryDelayOf(row)],
    ['Timeout of an attempt', duration(row.timeout_seconds)],
    ['Heartbeat', duration(row.heartbeat_seconds)],
    ['Priority', String(row.priority)],
    ['Order', row.is_fair ? 'in turn over the principals' : 'the oldest first'],
    ['At once in one group', row.group_concurrency !== null && count(row.group_concurrency)],
    [
      'Starts',
      row.limit_starts !== null &&
        `${count(row.limit_starts)} in ${duration(row.limit_period_seconds)}${row.limit_has_key ? ', for each key' : ''}`,
    ],
    [
      'At once',
      row.limit_concurrency !== null && `${count(row.limit_concurrency)}${row.limit_has_key ? ' for each key' : ''}`,
    ],
    ['Backlog at most', row.max_backlog !== null && count(row.max_backlog)],
    ['Backlog of a principal at most', row.max_backlog_per_principal !== null && count(row.max_backlog_per_principal)],
    ['Records are kept', duration(row.keep_seconds)],
    ['Abandon', row.has_abandon && 'runs when a job fails or is canceled'],
    ['Defined', time(row.defined_at)],
  ])

const retryDelayOf = (row: Policy): string =>
  row.retry_backoff
    ? `${duration(row.retry_delay_seconds)}, doubled each time, at most ${duration(row.retry_max_delay_seconds)}`
    : duration(row.retry_delay_seconds)
