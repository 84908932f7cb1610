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
>

/** Which jobs to list. */
export interface JobFilter {
  status?: string
  operation?: string
  principal?: string
  error?: string
  parent?: string
  since?: string
  limit?: string
}

export type ListJobsOptions = ListOptions & JobFilter

const defaultLimit = 20

/** Runs `accepted jobs list`: lists jobs of all principals, newest first. */
export async function listJobsCommand(options: ListJobsOptions): Promise<void> {
  await printList(jobList(options), options)
}

function jobList(filter: JobFilter): List<JobRow> {
  const readPage = createReader(filter)
  return {
    columns: [
      { heading: 'ID', cell: ({ id }) => id },
      { heading: 'OPERATION', cell: ({ operation }) => operation, whenNarrow: 'cut' },
      { heading: 'STATUS', cell: ({ status }) => status, style: ({ status }) => statusStyles[status] },
      { heading: 'CREATED', cell: (job) => job.created_at },
      { heading: 'ENDED', cell: (job) => job.ended_at, whenNarrow: 'omit' },
      { heading: 'PRINCIPAL', cell: ({ principal }) => principal, whenNarrow: 'omit' },
      { heading: 'ATTEMPT', cell: (job) => `${job.attempt} of ${job.max_attempts}`, whenNarrow: 'omit' },
      { heading: 'ERROR', cell: ({ error }) => error && `${error.code}: ${error.message}`, whenNarrow: 'cut' },
    ],
    read: readPage,
    whenEmpty: 'No jobs found.',
    isPage: true,
  }
}

export const jobColumns = sql.raw(`
  id, operation, status, principal, percent, message, attempt, max_attempts, worker, due_at,
  case when error_code is not null then jsonb_build_object('code', error_code, 'message', error_message) end as error,
  resource, parent, retry_of, children, created_at, started_at, ended_at`)

/** The error of a job, or while it has not ended, that of its last attempt. */
const errorCode = sql`
  coalesce(job.error, case when job.ended_at is null then (
    select attempt.error from accepted.attempt where attempt.job_id = job.id order by attempt.attempt desc limit 1
  ) end) ->> 'code'`

/** @throws ConfigError when the filter is invalid */
export function createReader(filter: JobFilter): (db: Database['kysely']) => Promise<JobRow[]> {
  const { status, operation, principal, error, parent } = filter
  const statuses = Object.keys(transitions)
  if (status !== undefined && !statuses.includes(status)) {
    throw new ConfigError(`--status must be one of ${statuses.join(', ')}, not '${status}'.`)
  }
  if (parent !== undefined && !isUuid(parent))
    throw new ConfigError(`--parent must be the id of a job, not '${parent}'.`)
  const limit = parseLimit(filter.limit) ?? defaultLimit
  const since = parseTime('--since', filter.since)
  const conditions = [
    sql`true`,
    ...(status === undefined ? [] : [sql`job.status = ${status}::accepted.job_status`]),
    ...(operation === undefined ? [] : [sql`job.operation = ${operation}`]),
    ...(principal === undefined ? [] : [sql`job.principal = ${principal}`]),
    ...(error === undefined ? [] : [sql`${errorCode} = ${error}`]),
    ...(parent === undefined ? [] : [sql`job.parent = ${parent}::uuid`]),
    ...(since === undefined ? [] : [sql`job.id >= (select accepted.uuid_floor(${since}))`]),
  ]
  return async (db) => {
    const { rows } = await sql<JobRow>`
      with page as materialized (
        select id from accepted.job where ${sql.join(conditions, sql` and `)} order by id desc limit ${limit}
      )
      select overview.* from page
      cross join lateral (select ${jobColumns} from accepted.job_overview where job_overview.id = page.id offset 0) overview
      order by id desc`.execute(db)
    return rows
  }
}
