import { sql } from 'kysely'
import type { WorkerOverviewRow } from '../../../db/views.ts'
import { badge, table } from '../components.ts'
import type { ConsoleContext } from '../context.ts'
import { ago, count } from '../format.ts'
import { type Html, html } from '../html.ts'
import type { ConsolePage } from '../page.ts'

const refreshSeconds = 5
const maxNamedOperations = 3
const maxNamedJobs = 3

/** The worker processes. */
export const workersPage: ConsolePage = {
  path: '/workers',
  label: 'Workers',
  addRoutes(app, context) {
    app.get('/workers', async (_request, reply) => {
      const { rows } = await context.read((trx) =>
        sql<WorkerOverviewRow>`select * from accepted.worker_overview limit 1000`.execute(trx),
      )
      return context.send(reply, {
        title: 'Workers',
        refreshSeconds,
        body: html`<div class="card" id="workers" data-live>${workerTable(context, rows)}</div>`,
      })
    })
  },
}

const workerTable = ({ base }: ConsoleContext, rows: readonly WorkerOverviewRow[]): Html =>
  table(
    [
      'Worker',
      'Status',
      { label: 'Running', isNumber: true },
      'Longest',
      'Operations',
      'Version',
      'Started',
      'Heartbeat',
    ],
    rows.map((row) => [
      html`<code>${row.worker}</code>`,
      badge(row.silent ? 'silent' : row.status),
      count(row.running),
      html`${ago(row.oldest_since)} ${row.job_ids
        ?.slice(0, maxNamedJobs)
        .map((id, index) => html`${index > 0 && ', '}<a href="${base}/jobs/${id}">job ${index + 1}</a>`)}`,
      operationsOf(row.operations),
      ...[row.version, ago(row.started_at), ago(row.heartbeat_at)],
    ]),
    { caption: 'Worker processes and what each holds', empty: 'No worker is running.' },
  )

/** Names the operations; of many, the first and how many more. */
function operationsOf(names: readonly string[]): Html {
  const shown = names.slice(0, maxNamedOperations).join(', ')
  if (names.length <= maxNamedOperations) return html`${shown}`
  return html`<details><summary>${shown} and ${names.length - maxNamedOperations} more</summary>${names.slice(maxNamedOperations).join(', ')}</details>`
}
