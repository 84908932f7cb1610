import { sql } from 'kysely'
import type { BacklogRow } from '../../../db/views.ts'
import { duration } from '../../pages/duration.ts'
import { chartsOf } from '../charts.ts'
import { badge, section, table } from '../components.ts'
import type { ConsoleContext } from '../context.ts'
import { ago, count } from '../format.ts'
import { type Html, html } from '../html.ts'
import { queryOf } from '../job-filter.ts'
import type { ConsolePage } from '../page.ts'
import { Recent } from '../recent.ts'
import { type Range, readThroughput, type Throughput, type ThroughputOfRange } from '../throughput.ts'
import { readStuckGroups, stuckGroupTable } from './stuck.ts'

const refreshSeconds = 5
const maxStuckGroups = 10
/** Requests for the overview share what was read within this time. */
const throughputMs = 4_000

type OperationRow = BacklogRow & { oldest_seconds: number | null }

interface FailureRow {
  operation: string
  error_code: string | null
  jobs: string
  retried: string
  last_at: Date
  example_id: string
}

/** The first page: what needs a person, and how the operations do. */
export const overviewPage: ConsolePage = {
  path: '/',
  label: 'Overview',
  addRoutes(app, context) {
    const throughputs = new Recent<ThroughputOfRange>(throughputMs)
    app.get<{ Querystring: { range?: string; operation?: string } }>('/', async ({ query }, reply) => {
      const range: Range = query.range === 'week' ? 'week' : 'hour'
      const operation = query.operation || undefined
      const [stuck, backlog, failures, throughput] = await Promise.all([
        context.read((trx) => readStuckGroups(trx, maxStuckGroups)),
        context.read((trx) =>
          sql<OperationRow>`
            select *, extract(epoch from oldest)::float8 as oldest_seconds from accepted.backlog order by operation`.execute(
            trx,
          ),
        ),
        context.read((trx) => sql<FailureRow>`select * from accepted.failure limit 20`.execute(trx)),
        throughputs.get(`${range} ${operation}`, () => context.read((trx) => readThroughput(trx, range, operation))),
      ])
      const needsPerson = section(
        stuck.total > 0 ? `Stuck: ${count(stuck.total)}` : 'Nothing is stuck',
        stuck.total > 0 &&
          html`${stuckGroupTable(context, stuck.rows)}${
            stuck.total > stuck.rows.length &&
            html`<p class="more"><a href="${context.base}/stuck">All that is stuck</a></p>`
          }`,
        { id: 'stuck' },
      )
      return context.send(reply, {
        title: 'Overview',
        refreshSeconds,
        ...{ scripts: ['console-charts.js'], styles: ['uPlot.min.css'] },
        body: html`${needsPerson}
${section('Throughput', throughputOf(context, throughput, { range, operation }), { id: 'throughput' })}
${section('Backlog', backlogOf(context, backlog.rows), { id: 'backlog' })}
${section('Failures of the last 24 hours', failureTable(context, failures.rows), { id: 'failures' })}`,
      })
    })
  },
}

interface Choice {
  range: Range
  operation: string | undefined
}

function throughputOf({ base }: ConsoleContext, { operations, times }: ThroughputOfRange, chosen: Choice): Html {
  const linkTo = (range: Range, operation: string | undefined) =>
    `${base}${queryOf({ operation }, { range: range === 'week' ? range : undefined })}`
  const choice = (label: string, href: string, isChosen: boolean) =>
    html`<a href="${href}"${isChosen && html` aria-current="true"`}>${label}</a>`
  return html`<p class="choices">${choice('Last hour', linkTo('hour', chosen.operation), chosen.range === 'hour')}
${choice('Last week', linkTo('week', chosen.operation), chosen.range === 'week')}
${chosen.operation !== undefined && html`<span>Charts of <strong>${chosen.operation}</strong></span> ${choice('All operations', linkTo(chosen.range, undefined), false)}`}</p>
${chartsOf(times, chosen.range === 'hour' ? 'minute' : 'hour')}
${operationTable(operations, (operation) => linkTo(chosen.range, operation))}`
}

const operationTable = (rows: readonly Throughput[], linkTo: (operation: string) => string): Html =>
  table(
    [
      'Operation',
      ...['Succeeded', 'Failed', 'Canceled', 'Wait p50', 'Wait p99', 'Run p50', 'Run p99'].map((label) => ({
        ...{ label, isNumber: true },
      })),
    ],
    rows.map((row) => [
      html`<a href="${linkTo(row.operation ?? '')}">${row.operation}</a>`,
      ...[count(row.succeeded), count(row.failed), count(row.canceled)],
      ...[row.wait_p50, row.wait_p99, row.run_p50, row.run_p99].map(duration),
    ]),
    { caption: 'What has ended, by operation', empty: 'Nothing has ended in this time.' },
  )

/** Shows the operations that have jobs, or that are paused. */
function backlogOf(context: ConsoleContext, rows: readonly OperationRow[]): Html {
  const busy = rows.filter((row) => row.paused || [row.ready, row.deferred, row.running].some((jobs) => jobs !== '0'))
  const idle = rows.length - busy.length
  return html`${backlogTable(context, busy)}${
    idle > 0 && html`<p class="more"><a href="${context.base}/operations">${count(idle)} more without jobs</a></p>`
  }`
}

const backlogTable = ({ base }: ConsoleContext, rows: readonly OperationRow[]): Html =>
  table(
    [
      'Operation',
      ...['Ready', 'Deferred', 'Running'].map((label) => ({ label, isNumber: true })),
      { label: 'Oldest ready', isNumber: true },
      { label: 'Workers', isNumber: true },
    ],
    rows.map((row) => [
      html`<a href="${base}/operations/${encodeURIComponent(row.operation)}">${row.operation}</a> ${row.paused && badge('paused')}`,
      ...[count(row.ready), count(row.deferred), count(row.running)],
      ...[duration(row.oldest_seconds), count(row.workers)],
    ]),
    { caption: 'Jobs that wait and run, by operation', empty: 'No jobs wait or run.' },
  )

const failureTable = ({ base }: ConsoleContext, rows: readonly FailureRow[]): Html =>
  table(
    ['Operation', 'Error', { label: 'Jobs', isNumber: true }, { label: 'Retried', isNumber: true }, 'Last', 'Example'],
    rows.map((row) => [
      row.operation,
      html`<a href="${base}/jobs${queryOf({ status: 'failed', operation: row.operation, error: row.error_code ?? undefined })}"><code>${row.error_code}</code></a>`,
      ...[count(row.jobs), count(row.retried), ago(row.last_at)],
      html`<a href="${base}/jobs/${row.example_id}">the last one</a>`,
    ]),
    { caption: 'Failures by operation and error code', empty: 'No job has failed.' },
  )
