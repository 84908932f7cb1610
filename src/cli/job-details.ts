import { sql } from 'kysely'
import { validate as isUuid } from 'uuid'
import { ConfigError } from '../config.ts'
import type { Database } from '../db/database.ts'
import type { JobStatus } from '../db/tables.ts'
import type { StuckRow, TimelineRow } from '../db/views.ts'
import { type FailedChild, readFailedChildren } from './batch-status.ts'
import { type JobWithError, jobColumns } from './job-list.ts'

interface FailedAttempt {
  attempt: number
  worker: string | null
  started_at: Date | null
  failed_at: Date
  error: { code: string; message: string }
}

/** Everything about one job, as `accepted jobs show --json` prints it. */
export interface JobDetails extends Omit<JobWithError, 'waiting_for'> {
  /** The number of live workers that claim jobs of its operation. */
  workers: number
  /** The jobs that must end before this job starts. */
  waiting_for: { id: string; operation: string; status: JobStatus }[]
  /** The problems that need a person. */
  problems: Pick<StuckRow, 'why' | 'what_to_do' | 'since'>[]
  failed_attempts: FailedAttempt[]
  /** The first failed children. */
  failed_children: FailedChild[]
  /** Without the children, of which there may be many. */
  timeline: TimelineRow[]
}

/** Maximum number of failed children that are shown. */
const maxFailedChildren = 5

/** @throws ConfigError when the text is no id of a job */
export function requireJobId(id: string): string {
  if (isUuid(id)) return id
  throw unknownJob(id)
}

/** @throws ConfigError when there is no such job */
export async function readJobDetails(db: Database['kysely'], id: string): Promise<JobDetails> {
  const [job] = await readOverview(db, requireJobId(id))
  if (!job) throw unknownJob(id)
  const { rows: timeline } = await sql<TimelineRow>`
    select at, event, attempt, worker, detail from accepted.timeline where job_id = ${id} and event <> 'child'
    order by at, event <> 'accepted', attempt`.execute(db)
  const { rows: failedAttempts } = await sql<FailedAttempt>`
    select attempt, accepted.worker_name(worker_id) as worker, started_at, failed_at, error
    from accepted.attempt where job_id = ${id} order by attempt`.execute(db)
  const problems = job.ended_at === null ? await readProblems(db, id) : []
  const failedChildren = job.children?.failed ? await readFailedChildren(db, id, maxFailedChildren) : []
  return { ...job, problems, failed_attempts: failedAttempts, failed_children: failedChildren, timeline }
}

export const unknownJob = (id: string): ConfigError =>
  new ConfigError(`There is no job ${id}, or its record is gone. \`accepted jobs list\` lists the newest jobs.`)

async function readOverview(db: Database['kysely'], id: string) {
  const { rows } = await sql<Omit<JobDetails, 'problems' | 'failed_attempts' | 'failed_children' | 'timeline'>>`
    select ${jobColumns}, cancel_requested, paused, paused_reason, priority, group_id, limit_key, idempotency_key,
      coalesced, expires_at, accepted.count_workers(operation)::integer as workers,
      array(
        select jsonb_build_object('id', job.id, 'operation', job.operation, 'status', job.status)
        from accepted.job where job.id = any(waiting_for) order by job.id
      ) as waiting_for
    from accepted.job_overview where id = ${id}`.execute(db)
  return rows
}

async function readProblems(db: Database['kysely'], id: string): Promise<JobDetails['problems']> {
  const { rows } = await sql<JobDetails['problems'][number]>`
    select why, what_to_do, since from accepted.stuck where job_id = ${id}`.execute(db)
  return rows
}
