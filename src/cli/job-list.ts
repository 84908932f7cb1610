import { sql } from 'kysely'
import { validate as isUuid } from 'uuid'
import { ConfigError } from '../config.ts'
import type { Database } from '../db/database.ts'
import type { JobOverviewRow } from '../db/views.ts'
import { transitions } from '../jobs/status.ts'
import { type List, type ListOptions, printList } from './list.ts'
import { parseLimit, parseTime } from './parse-options.ts'
import { statusStyles } from './status-style.ts'

/** A job with its error as one member. */
export type JobWithError = Omit<JobOverviewRow, 'error_code' | 'error_message'> & {
  error: { code: string; message: string } | null
}

/** A job as `jobs list --json` prints it. */
export type JobRow = Omit<
  JobWithError,
  | 'cancel_requested'
  | 'paused'
  | 'paused_reason'
  | 'priority'
  | 'group_id'
  | 'limit_key'
  | 'idempotency_key'
  | 'waiting_for'
  | 'coalesced'
  | 'expires_at'
> & {
  /** Whether the job has a retry that was not canceled. */
  retried: boolean
}

/** Which jobs to list. */
export interface JobFilter {
  status?: string
  operation?: string
  principal?: string
  error?: string
  resource?: string
  key?: string
  parent?: string
  notRetried?: boolean
  since?: string
  until?: string
  before?: string
  limit?: string
}

export type ListJobsOptions = ListOptions & JobFilter

const defaultLimit = 20
/** How often a list calls `accepted.find_jobs`, each call of which reads up to 50,000 rows. */
const maxCalls = 20

/** Runs `accepted jobs list`: lists jobs of all principals, newest first. */
export async function listJobsCommand(options: ListJobsOptions): Promise<void> {
  await printList(jobList(options), options)
}

function jobList(filter: JobFilter): List<JobRow> {
  return {
    ...findJobs(filter),
    columns: [
      { heading: 'ID', cell: ({ id }) => id },
      { heading: 'OPERATION', cell: ({ operation }) => operation, whenNarrow: 'cut' },
      { heading: 'STATUS', cell: ({ status }) => status, style: ({ status }) => statusStyles[status] },
      { heading: 'CREATED', cell: (job) => job.created_at },
      { heading: 'ENDED', cell: (job) => job.ended_at, whenNarrow: 'omit' },
      { heading: 'PRINCIPAL', cell: ({ principal }) => principal, whenNarrow: 'omit' },
      { heading: 'ATTEMPT', cell: attemptOf, whenNarrow: 'omit' },
      {
        heading: 'ERROR',
        cell: errorOf,
        whenNarrow: 'cut',
        room: 40,
      },
    ],
    whenEmpty: 'No jobs found.',
    isPage: true,
  }
}

/** The mark of a retried job takes the room of its error, which matters less. */
const errorOf = ({ error, retried }: JobRow) =>
  [retried && '(retried)', error && `${error.code}: ${error.message}`].filter(Boolean).join(' ')

/** A batch has no attempts: its work is that of its jobs. */
export const attemptOf = (job: Pick<JobRow, 'operation' | 'attempt' | 'max_attempts'>): string =>
  job.operation === 'batch' ? '' : `${job.attempt} of ${job.max_attempts}`

export const jobColumns = sql.raw(`
  id, operation, status, principal, percent, message, attempt, max_attempts, worker, due_at,
  case when error_code is not null then jsonb_build_object('code', error_code, 'message', error_message) end as error,
  resource, parent, retry_of, children, created_at, started_at, ended_at`)

/**
 * Finds jobs, newest first, as the console does: every statement reads a bounded number of rows.
 *
 * @throws ConfigError when the filter is invalid
 */
export function findJobs({ limit, since, until, before, ...members }: JobFilter): Pick<List<JobRow>, 'read' | 'note'> {
  const { status, operation, principal, error, resource, key, parent, notRetried } = members
  const statuses = Object.keys(transitions)
  if (status !== undefined && !statuses.includes(status)) {
    throw new ConfigError(`--status must be one of ${statuses.join(', ')}, not '${status}'.`)
  }
  for (const [option, id] of [
    ['--parent', parent],
    ['--before', before],
  ] as const) {
    if (id !== undefined && !isUuid(id)) throw new ConfigError(`${option} must be the id of a job, not '${id}'.`)
  }
  const maxJobs = parseLimit(limit) ?? defaultLimit
  const from = parseTime('--since', since) ?? sql`null`
  const to = parseTime('--until', until) ?? sql`null`
  const filter = sql`
    ${JSON.stringify({ status, operation, principal, error, resource, key, parent, ...(notRetried && { retried: false }) })}::jsonb
      || jsonb_build_object('from', ${from}, 'to', ${to})`
  let unsearched: string | undefined
  return {
    async read(db) {
      const ids: string[] = []
      let next: string | null = before ?? null
      for (let calls = 0; calls < maxCalls && (calls === 0 || (next && ids.length < maxJobs)); calls++) {
        const { rows } = await sql<{ ids: string[]; next: string | null }>`
          select job_ids as ids, next_before as next
          from accepted.find_jobs(${filter}, ${next}::uuid, ${maxJobs - ids.length}::integer)`.execute(db)
        ids.push(...(rows[0]?.ids ?? []))
        next = rows[0]?.next ?? null
      }
      unsearched = ids.length < maxJobs ? (next ?? undefined) : undefined
      return readRows(db, ids)
    },
    note: () => unsearched && `Older jobs were not searched. To search them, add: --before ${unsearched}`,
  }
}

async function readRows(db: Database['kysely'], ids: readonly string[]): Promise<JobRow[]> {
  const { rows } = await sql<JobRow>`
    select overview.*, exists (
      select from accepted.job retry
      where retry.retry_of = found.job_id and retry.id > found.job_id and retry.status <> 'canceled'
    ) as retried
    from unnest(${ids}::uuid[]) found (job_id)
    cross join lateral (
      select ${jobColumns} from accepted.job_overview where job_overview.id = found.job_id offset 0
    ) overview
    order by id desc`.execute(db)
  return rows
}
