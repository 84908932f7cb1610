import { sql } from 'kysely'
import { isUuid7 } from '../../../jobs/read.ts'
import { duration } from '../../pages/duration.ts'
import { badge, field, pager, progressBar, table } from '../components.ts'
import type { ConsoleContext } from '../context.ts'
import { ago } from '../format.ts'
import { type Html, html } from '../html.ts'
import {
  actionsFor,
  type BulkAction,
  filterFields,
  findJobs,
  type JobFilter,
  lastText,
  queryOf,
  readFilter,
} from '../job-filter.ts'
import type { ConsolePage } from '../page.ts'
import { type JobRow, overviewColumns } from './job-view.ts'

type ListedJob = JobRow & { retried: boolean }

const pageSizes = ['50', '200', '1000']

/** The list of the jobs of all principals. */
export const jobsPage: ConsolePage = {
  path: '/jobs',
  label: 'Jobs',
  addRoutes(app, context) {
    app.get<{ Querystring: Record<string, unknown> }>('/jobs', async ({ query }, reply) => {
      const id = lastText(query.id)
      if (id) return context.redirect(reply, `${context.base}/jobs/${encodeURIComponent(id)}`)
      const { filter, problem } = readFilter(query)
      const size = pageSizes.find((size) => size === lastText(query.size)) ?? '50'
      const before = isUuid7(lastText(query.before)) ? lastText(query.before) : undefined
      const { jobs, next, operations } = await context.read(async (trx) => {
        const found = await findJobs(trx, filter, { before, maxJobs: Number(size) })
        const { rows } = await sql<ListedJob>`
          select overview.*, exists (
            select from accepted.job retry
            where retry.retry_of = found.id and retry.id > found.id and retry.status <> 'canceled'
          ) as retried
          from unnest(${found.ids}::uuid[]) found (id)
          -- With the offset, Postgres looks up each job. Otherwise it may read the whole queue.
          cross join lateral (
            select ${overviewColumns} from accepted.job_overview where job_overview.id = found.id offset 0
          ) overview
          order by overview.id desc`.execute(trx)
        const defined = await sql<{ name: string }>`select name from accepted.operation order by name`.execute(trx)
        return { jobs: rows, next: found.next, operations: defined.rows.map(({ name }) => name) }
      })
      const linkTo = (more: Record<string, string | undefined>) =>
        `${context.base}/jobs${queryOf(filter, { ...(size !== '50' && { size }), ...more })}`
      const isPartial = next !== null && jobs.length < Number(size)
      return context.send(reply, {
        title: 'Jobs',
        body: html`${problem !== undefined && html`<p class="notice error" role="alert">${problem}</p>`}
${filterForm(context, filter, operations, size)}
${bulkLinks(context, filter)}
<div class="card">${jobTable(context, jobs, next)}</div>
${pager({ first: before && linkTo({}), next: next === null ? undefined : linkTo({ before: next }), label: isPartial ? 'Search older jobs' : 'Older' })}`,
      })
    })
  },
}

function filterForm({ base }: ConsoleContext, filter: JobFilter, operations: readonly string[], size: string): Html {
  return html`<form method="get" action="${base}/jobs" role="search" class="filter">${filterFields(filter, operations).map(field)}${field(
    { name: 'size', label: 'Jobs per page', value: size, choices: pageSizes },
  )}<div class="buttons"><button type="submit">Filter</button> <a href="${base}/jobs">Clear</a></div></form>`
}

const labels: Readonly<Record<BulkAction, string>> = {
  cancel: 'Cancel all that match',
  retry: 'Retry all that match',
  redrive: 'Redrive all failures that match',
  undo: '',
}

const bulkLinks = ({ base }: ConsoleContext, filter: JobFilter): Html =>
  html`<p class="actions">${actionsFor(filter).map(
    (action) => html`<a class="button" href="${base}/jobs/bulk${queryOf(filter, { action })}">${labels[action]}…</a>`,
  )}</p>`

function jobTable({ base }: ConsoleContext, jobs: readonly ListedJob[], next: string | null): Html {
  return table(
    [
      'Job',
      'Status',
      'Principal',
      { label: 'Attempt', isNumber: true },
      'Accepted',
      { label: 'Duration', isNumber: true },
      'Last message',
    ],
    jobs.map((job) => [
      html`<a href="${base}/jobs/${job.id}" title="${job.id}">${job.operation}</a> <code class="id">…${job.id.slice(-8)}</code>`,
      html`${badge(job.status)} ${job.retried && 'retried'}${job.status === 'running' && job.percent !== null && progressBar(job.percent, `Progress of ${job.operation}`)}`,
      job.principal,
      `${job.attempt} of ${job.max_attempts}`,
      ago(job.created_at),
      duration(job.run_seconds),
      job.error_code === null ? job.message : html`<code>${job.error_code}</code> ${job.error_message}`,
    ]),
    {
      caption: 'Jobs, the newest first',
      empty: next === null ? 'No job matches.' : 'None of the newest jobs matches. Older jobs may.',
    },
  )
}
