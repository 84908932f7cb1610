import { withCommands } from './command-hints.ts'
import { forEachId } from './for-each-id.ts'
import { type JobDetails, readJobDetails } from './job-details.ts'
import { attemptOf } from './job-list.ts'
import { currentTerminal } from './list.ts'
import type { OutputOptions } from './output-options.ts'
import { statusStyles } from './status-style.ts'
import { formatFields, formatTable, type Terminal } from './table.ts'

/** Runs `accepted jobs show`: prints jobs with their timelines, what they wait for, and what a person can do. */
export async function showJobsCommand(ids: readonly string[], options: OutputOptions): Promise<void> {
  await forEachId(ids, options, {
    act: readJobDetails,
    format: (job) => formatJob(job, currentTerminal()),
  })
}

/** Formats a job for people. */
export function formatJob(job: JobDetails, terminal: Terminal | undefined): string {
  return [
    ...formatFields(
      [
        ['ID', job.id],
        ['Operation', job.operation],
        ['Status', formatStatus(job), statusStyles[job.status]],
        ['Principal', job.principal],
        ['Attempt', attemptOf(job)],
        ['Progress', formatProgress(job)],
        ['Children', formatChildren(job)],
        ['Error', job.error && `${job.error.code}: ${job.error.message}`],
        ['Waits for', waitsFor(job)],
        ['To do', adviseOn(job).join(' ')],
        ['Worker', job.worker],
        ['Due', job.due_at],
        ['Created', job.created_at],
        ['Started', job.started_at],
        ['Ended', job.ended_at],
        ['Expires', job.ended_at && job.expires_at],
        ['Resource', job.resource],
        ['Parent', job.parent],
        ['Retry of', job.retry_of],
        ['Key', job.idempotency_key],
        ['Group', job.group_id],
        ['Limit', job.limit_key],
        ['Priority', job.priority || undefined],
        ['Coalesced', job.coalesced || undefined],
      ],
      terminal,
    ),
    '',
    ...formatTable(
      [
        { heading: 'AT', cell: ({ at }) => at },
        { heading: 'EVENT', cell: ({ event }) => event },
        { heading: 'ATTEMPT', cell: ({ attempt }) => attempt },
        { heading: 'WORKER', cell: ({ worker }) => worker, whenNarrow: 'cut' },
        { heading: 'DETAIL', cell: ({ detail }) => detail, whenNarrow: 'cut' },
      ],
      job.timeline,
      terminal,
    ),
    ...formatFailedChildren(job, terminal),
  ].join('\n')
}

const formatStatus = (job: JobDetails) =>
  `${job.status}${job.ended_at === null && job.cancel_requested ? ' (cancellation requested)' : ''}`

function formatProgress({ percent, message }: JobDetails): string | undefined {
  const parts = [percent === null ? undefined : `${percent} %`, message].filter((part) => part)
  return parts.length > 0 ? parts.join('  ') : undefined
}

/** Counts the children by their state, and says how to list them. */
function formatChildren({ id, children }: JobDetails): string | undefined {
  if (!children) return undefined
  const { total, succeeded, failed, canceled } = children
  const counts = { succeeded, failed, canceled, 'not ended': total - succeeded - failed - canceled }
  const parts = Object.entries(counts).flatMap(([state, count]) => (count > 0 ? [`${count} ${state}`] : []))
  return `${total}: ${parts.join(', ')}. To list them: accepted jobs list --parent ${id}`
}

function formatFailedChildren(job: JobDetails, terminal: Terminal | undefined): string[] {
  const { failed_children: shown, children } = job
  if (shown.length === 0) return []
  const more = (children?.failed ?? 0) - shown.length
  return [
    '',
    ...formatTable(
      [
        { heading: 'FAILED CHILD', cell: ({ id }) => id },
        { heading: 'OPERATION', cell: ({ operation }) => operation, whenNarrow: 'cut' },
        { heading: 'ERROR', cell: ({ error }) => `${error.code}: ${error.message}`, whenNarrow: 'cut' },
      ],
      shown,
      terminal,
    ),
    ...(more > 0 ? [`… and ${more} more. To list them: accepted jobs list --parent ${job.id} --status failed`] : []),
  ]
}

/** Says what a queued job waits for, as the timeline does. */
function waitsFor(job: JobDetails): string | undefined {
  if (job.status !== 'queued') return undefined
  if (job.waiting_for.length > 0) {
    return job.waiting_for.map(({ id, operation, status }) => `${id} (${operation}, ${status})`).join(', ')
  }
  const due = job.timeline.find(({ event, detail }) => event === 'due' && detail)?.detail
  return due?.replace(/^waits (?:for|to) /, '') ?? undefined
}

/** Says what a person can do about a job. */
function adviseOn(job: JobDetails): string[] {
  const { id, operation, status } = job
  if (job.problems.length > 0)
    return job.problems.map((problem) => `${capitalize(problem.why)}. ${withCommands(problem.what_to_do)}`)
  if (status === 'failed' || status === 'canceled') {
    const retry = job.timeline.find(({ event }) => event === 'retried')
    return [retry ? `Nothing: it was retried ${retry.detail}.` : `To run it again: accepted jobs retry ${id}`]
  }
  if (status === 'running') return [`To follow it: accepted jobs watch ${id}`]
  if (status !== 'queued') return []
  if (job.paused) return [`To let workers start it: accepted operations resume ${operation}`]
  if (job.workers === 0) return [`Start a worker that claims ${operation}: no live worker does.`]
  if (job.waiting_for.length > 0) return [`Nothing: it starts when these jobs have ended.`]
  return job.due_at && job.due_at > new Date() ? [`To run it now: accepted jobs run ${id}`] : []
}

const capitalize = (text: string) => text.charAt(0).toUpperCase() + text.slice(1)
