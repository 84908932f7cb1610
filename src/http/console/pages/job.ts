import type { FastifyInstance } from 'fastify'
import { type RawBuilder, sql } from 'kysely'
import { ProblemError } from '../../../errors.ts'
import { isUuid7 } from '../../../jobs/read.ts'
import { isFinal } from '../../../jobs/status.ts'
import { batchName, bulkName } from '../../../operation.ts'
import { duration } from '../../pages/duration.ts'
import { actionForm, actions, badge, facts, progressBar, section } from '../components.ts'
import { type ConsoleContext, type Done, type Form, Refusal } from '../context.ts'
import { time } from '../format.ts'
import { type Html, html } from '../html.ts'
import type { ConsolePage } from '../page.ts'
import { undoLink } from './bulk.ts'
import { relativesOf, timelineOf } from './job-sections.ts'
import { readValues, valuesOf } from './job-values.ts'
import { type JobView, readJobView, type StuckReason } from './job-view.ts'

const refreshSeconds = 3
const maxPriority = 2 ** 31 - 1

/** The page of one job, with the forms that change it. */
export const jobPage: ConsolePage = {
  path: '/jobs/:id',
  addRoutes(app, context) {
    app.get<{ Params: { id: string } }>('/jobs/:id', async (request, reply) => {
      const { id } = request.params
      if (!isUuid7(id)) throw new ProblemError('not-found', 'There is no job with this id')
      const [view, values] = await Promise.all([
        context.read((trx) => readJobView(trx, id)),
        readValues(context.service, request, id),
      ])
      if (!view) throw new ProblemError('not-found', 'There is no job with this id')
      const { job, timeline } = view
      const isOver = isFinal(job.status)
      return context.send(reply, {
        title: job.operation,
        above: html`<a href="${context.base}/jobs">Jobs</a>`,
        beside: badge(job.status),
        ...(!isOver && { refreshSeconds }),
        body: html`<div id="state" data-live>${stateOf(context, view)}</div>
<div id="acts" data-live>${actsOf(context, view)}${
          job.operation === bulkName && html`<p class="actions">${undoLink(context, id, values)}</p>`
        }</div>
${section('Timeline', timelineOf(context, timeline), { id: 'timeline' })}
${relativesOf(context, view)}
${valuesOf(values)}`,
      })
    })
    addActions(app, context)
  },
}

function stateOf({ base }: ConsoleContext, { job, stuck }: JobView): Html {
  const link = (id: string | null) => id && html`<a href="${base}/jobs/${id}">${id}</a>`
  const isOver = isFinal(job.status)
  return html`${stuck.map(warn)}
${job.error_code !== null && html`<p class="notice error"><code>${job.error_code}</code> ${job.error_message}${!isOver && ' (the last attempt)'}</p>`}
${((!isOver && job.status === 'running') || (job.percent !== null && job.status !== 'failed' && job.status !== 'canceled')) && progressBar(job.percent, 'Progress of the job')}
${facts([
  ['Job', job.id],
  ['Status', job.cancel_requested && !isOver ? `${job.status}, cancellation requested` : job.status],
  [isOver ? 'Last message' : 'Message', job.message],
  ['Principal', html`<a href="${base}/jobs?principal=${encodeURIComponent(job.principal)}">${job.principal}</a>`],
  ['Attempt', `${job.attempt} of ${job.max_attempts}`],
  ['Worker', job.worker],
  ['Due', job.due_at && time(job.due_at)],
  ['Priority', job.priority === null ? undefined : String(job.priority)],
  ['Accepted', time(job.created_at)],
  ['Started', job.started_at && time(job.started_at)],
  ['Ended', job.ended_at && time(job.ended_at)],
  ['Duration', job.run_seconds === null ? undefined : duration(job.run_seconds)],
  ['Resource', job.resource],
  ['Idempotency key', job.idempotency_key],
  ['Group', job.group_id],
  ['Limit key', job.limit_key],
  ['Shared by', job.coalesced > 0 && `${job.coalesced} further requests`],
  ['Retry of', link(job.retry_of)],
  ['Child of', link(job.parent)],
  ['Operation paused', job.paused && (job.paused_reason ?? 'without a reason')],
  ['Record kept until', time(job.expires_at)],
])}`
}

const warn = ({ why, what_to_do }: StuckReason): Html =>
  html`<p class="notice warning"><strong>Stuck:</strong> ${why}. ${what_to_do}</p>`

function actsOf({ base }: ConsoleContext, { job }: JobView): Html {
  const page = `${base}/jobs/${job.id}`
  const isQueued = job.status === 'queued'
  const isRetryable = (job.status === 'failed' || job.status === 'canceled') && job.operation !== batchName
  return actions([
    isRetryable ? actionForm({ action: `${page}/retry`, back: page, label: 'Retry' }) : undefined,
    isQueued ? actionForm({ action: `${page}/run`, back: page, label: 'Run now' }) : undefined,
    isQueued
      ? actionForm({
          ...{ action: `${page}/priority`, back: page, label: 'Change priority' },
          fields: [
            {
              name: 'priority',
              label: 'Priority; higher starts first',
              type: 'number',
              value: String(job.priority ?? 0),
              isRequired: true,
            },
          ],
        })
      : undefined,
    isFinal(job.status)
      ? undefined
      : actionForm({
          ...{ action: `${page}/cancel`, back: page, label: 'Cancel', isDangerous: true },
          explanation: isQueued
            ? 'The job is canceled at once, and its handler never runs.'
            : 'The signal of its handler aborts. What the handler has done outside of Postgres stays.',
        }),
  ])
}

function addActions(app: FastifyInstance, context: ConsoleContext): void {
  const add = (
    name: string,
    call: (id: string, form: Form) => RawBuilder<{ outcome: string | null }>,
    done: (outcome: string) => string | Done,
  ) =>
    context.action(app, `/jobs/:id/${name}`, async (trx, { params: { id = '' }, body }) => {
      if (!isUuid7(id)) throw new Refusal('There is no job with this id.')
      const { rows } = await call(id, body).execute(trx)
      return done(`${rows[0]?.outcome}`)
    })
  add(
    'cancel',
    (id) => sql`select accepted.cancel(${id}) as outcome`,
    (status) => (status === 'canceled' ? 'The job is canceled.' : 'Cancellation is requested.'),
  )
  add(
    'retry',
    (id) => sql`select accepted.retry(${id}) as outcome`,
    (retry) => ({
      notice: 'This is the new job that does the work again.',
      to: `/jobs/${retry}`,
    }),
  )
  add(
    'run',
    (id) => sql`select accepted.reschedule(${id}, now())::text as outcome`,
    () => 'The job is due now.',
  )
  add(
    'priority',
    (id, { priority = '' }) =>
      sql`select accepted.prioritize(${id}, ${priorityOf(priority)}::integer)::text as outcome`,
    () => 'The priority is changed.',
  )
}

function priorityOf(text: string): number {
  const priority = Number(text)
  if (text.trim() !== '' && Number.isInteger(priority) && Math.abs(priority) <= maxPriority) return priority
  throw new Refusal(`The priority must be an integer from ${-maxPriority} to ${maxPriority}.`)
}
