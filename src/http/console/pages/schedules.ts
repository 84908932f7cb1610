import { sql } from 'kysely'
import type { ScheduleOverviewRow } from '../../../db/views.ts'
import { ProblemError } from '../../../errors.ts'
import { actionForm, actions, badge, facts, section, table } from '../components.ts'
import { type ConsoleContext, Refusal } from '../context.ts'
import { ago, count, time } from '../format.ts'
import { type Html, html } from '../html.ts'
import type { ConsolePage } from '../page.ts'

const refreshSeconds = 5
const maxReasonLength = 500
const maxBackfill = 10_000

/** The schedules. An operator pauses, resumes, runs and backfills them here. */
export const schedulesPage: ConsolePage = {
  path: '/schedules',
  label: 'Schedules',
  addRoutes(app, context) {
    app.get('/schedules', async (_request, reply) => {
      const { rows } = await context.read((trx) =>
        sql<ScheduleOverviewRow>`select * from accepted.schedule_overview order by name limit 1000`.execute(trx),
      )
      return context.send(reply, {
        title: 'Schedules',
        refreshSeconds,
        body: html`<div class="card" id="schedules" data-live>${scheduleTable(context, rows)}</div>`,
      })
    })
    app.get<{ Params: { name: string } }>('/schedules/:name', async (request, reply) => {
      const { rows } = await context.read((trx) =>
        sql<ScheduleOverviewRow>`select * from accepted.schedule_overview where name = ${request.params.name}`.execute(
          trx,
        ),
      )
      const [schedule] = rows
      if (!schedule) throw new ProblemError('not-found', 'There is no schedule with this name')
      return context.send(reply, {
        title: schedule.name,
        above: html`<a href="${context.base}/schedules">Schedules</a>`,
        beside: schedule.paused_at && badge('paused'),
        refreshSeconds,
        body: html`<div id="state" data-live>${stateOf(context, schedule)}</div>
<div id="acts" data-live>${actsOf(context, schedule)}</div>
${section('Next occurrences', nextFiresOf(schedule), { id: 'next' })}
${actions([backfillOf(context, schedule)])}`,
      })
    })
    addActions(app, context)
  },
}

function addActions(app: Parameters<ConsolePage['addRoutes']>[0], context: ConsoleContext): void {
  context.action(app, '/schedules/:name/pause', async (trx, { params: { name }, body }) => {
    const reason = body.reason?.trim().slice(0, maxReasonLength)
    await sql`select accepted.pause_schedule(${name}, ${reason || null})`.execute(trx)
    return `${name} is paused. Its occurrences pass without a job; a backfill can create these jobs later.`
  })
  context.action(app, '/schedules/:name/resume', async (trx, { params: { name } }) => {
    await sql`select accepted.resume_schedule(${name})`.execute(trx)
    return `${name} is resumed.`
  })
  context.action(app, '/schedules/:name/run', async (trx, { params: { name } }) => {
    const { rows } = await sql<{ id: string }>`select accepted.run_schedule(${name}) as id`.execute(trx)
    return `A worker creates the job ${rows[0]?.id} within about a second.`
  })
  context.action(app, '/schedules/:name/backfill', async (trx, { params: { name }, body }) => {
    const [since, until] = [timeFrom(body.since, 'From'), body.until ? timeFrom(body.until, 'To') : null]
    const maxJobs = /^\d{1,6}$/.test(body.max_jobs ?? '') ? Number(body.max_jobs) : 0
    const { rows } = await sql<{ id: string }>`
      select accepted.backfill_schedule(${name}, ${since}::timestamptz, coalesce(${until}::timestamptz, now()), ${maxJobs}) as id
    `.execute(trx)
    return `A worker creates the batch ${rows[0]?.id} with the missed jobs within about a second. To undo it, cancel the batch.`
  })
}

/** Reads the value of an input for a time, which has no time zone. The form says that it is UTC. */
function timeFrom(value: string | undefined, label: string): string {
  const at = new Date(`${value}Z`)
  if (Number.isNaN(at.getTime())) throw new Refusal(`${label} is not a time like 2026-11-29T03:00.`)
  return at.toISOString()
}

const linkTo = ({ base }: ConsoleContext, name: string) => `${base}/schedules/${encodeURIComponent(name)}`

const lastJobOf = (
  { base }: ConsoleContext,
  { last_job_id: id, last_status: status, last_at: at }: ScheduleOverviewRow,
): Html =>
  id === null
    ? html`–`
    : html`<a href="${base}/jobs/${id}">${ago(at)}</a> ${status === null ? 'record expired' : badge(status)}`

const scheduleTable = (context: ConsoleContext, rows: readonly ScheduleOverviewRow[]): Html =>
  table(
    ['Schedule', 'Operation', 'Expression', 'Time zone', 'Next', 'Last job'],
    rows.map((row) => [
      html`<a href="${linkTo(context, row.name)}">${row.name}</a> ${row.paused_at && badge('paused')}`,
      ...[operationLink(context, row), row.expression, row.timezone],
      ...[row.next_at === null ? 'never again' : ago(row.next_at), lastJobOf(context, row)],
    ]),
    { caption: 'Schedules', empty: 'No schedule is defined. A worker writes the schedules of its app when it starts.' },
  )

const operationLink = ({ base }: ConsoleContext, { operation }: ScheduleOverviewRow): Html =>
  html`<a href="${base}/operations/${encodeURIComponent(operation)}">${operation}</a>`

const stateOf = (context: ConsoleContext, row: ScheduleOverviewRow): Html =>
  html`${
    row.paused_at &&
    html`<p class="notice warning"><strong>Paused</strong> ${ago(row.paused_at)}. ${row.paused_reason ?? 'No reason was given.'}</p>`
  }${
    row.requests !== '0' &&
    html`<p class="notice warning">${count(row.requests)} requested ${row.requests === '1' ? 'run waits' : 'runs wait'} for a worker that knows this schedule. If it stays so, no such worker is running, or the payload of the schedule fails: the logs of the workers say why.</p>`
  }${facts([
    ['Operation', operationLink(context, row)],
    ['Expression', html`<code>${row.expression}</code>`],
    ['Time zone', row.timezone],
    ['Next', row.next_at === null ? 'never again' : ago(row.next_at)],
    ['Last job', lastJobOf(context, row)],
  ])}`

function actsOf(context: ConsoleContext, { name, paused_at: pausedAt }: ScheduleOverviewRow): Html {
  const page = linkTo(context, name)
  return actions([
    actionForm({ action: `${page}/run`, back: page, label: 'Run now' }),
    pausedAt
      ? actionForm({ action: `${page}/resume`, back: page, label: 'Resume' })
      : actionForm({
          ...{ action: `${page}/pause`, back: page, label: 'Pause' },
          explanation: 'Its occurrences pass without a job until it is resumed.',
          fields: [{ name: 'reason', label: 'Reason, for the others', maxLength: maxReasonLength }],
        }),
  ])
}

function nextFiresOf({ next_fires: fires, timezone, paused_at: pausedAt }: ScheduleOverviewRow): Html {
  if (fires.length === 0) return html`<p class="empty">The rule has no more occurrences.</p>`
  return html`${pausedAt && html`<p>While the schedule is paused, they pass without a job.</p>`}${table(
    ['When', 'UTC', timezone],
    fires.map((at) => [ago(at), time(at), localTime(at, timezone)]),
    { caption: 'Next occurrences', empty: '' },
  )}`
}

/** Shows a time in the zone of the schedule. Postgres and Node may know different zones. */
function localTime(at: Date, timeZone: string): string {
  try {
    return at.toLocaleString('en-GB', { timeZone, dateStyle: 'medium', timeStyle: 'medium' })
  } catch {
    return '–'
  }
}

function backfillOf(context: ConsoleContext, { name }: ScheduleOverviewRow): Html {
  const page = linkTo(context, name)
  return actionForm({
    ...{ action: `${page}/backfill`, back: page, label: 'Backfill missed occurrences' },
    explanation:
      'Creates one job for each occurrence that never became a job, the oldest first: while the schedule was paused, while no worker ran, or before it existed.',
    fields: [
      { name: 'since', label: 'From (UTC)', type: 'datetime-local', isRequired: true },
      { name: 'until', label: 'To (UTC), empty for now', type: 'datetime-local' },
      {
        name: 'max_jobs',
        label: `Jobs at most (up to ${count(maxBackfill)})`,
        type: 'number',
        value: '1000',
        isRequired: true,
      },
    ],
  })
}
