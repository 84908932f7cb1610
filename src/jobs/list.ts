import { type Kysely, sql } from 'kysely'
import type { JobState, Tables } from '../db/tables.ts'
import { type Job, jobColumns } from './job.ts'

/** Which jobs of a principal are wanted. */
export interface ListOptions {
  principal: string
  status?: JobState | undefined
  operation?: string | undefined
  /** Jobs on the page, at most. */
  limit: number
  /** Only jobs with a smaller id: older ones. */
  before?: string | undefined
}

/** A page of jobs, newest first. */
export interface JobPage {
  jobs: Job[]
  /** The `before` of the next page; none on the last one. */
  next: string | undefined
}

/** Rows that a filter looks at for one page, at most. */
const mostLookedAt = 10_000

const lastId = 'ffffffff-ffff-ffff-ffff-ffffffffffff'

/**
 * A page of a principal's jobs, by keyset. A filter looks at no more than 10,000 rows, so its page may be short and
 * still have a next one.
 */
export async function listJobs(db: Kysely<Tables>, options: ListOptions): Promise<JobPage> {
  const { principal, status = null, operation = null, limit, before = lastId } = options
  const lookedAt = status || operation ? mostLookedAt : limit + 1
  const { rows } = await sql<Job & { last_looked_at: string; looked_at: number }>`
    with looked as materialized (
      select id, state, operation from accepted.job
      where principal = ${principal} and id < ${before} and (ended_at is null or expires_at > now())
      order by id desc limit ${lookedAt}
    ), page as materialized (
      select id from looked
      where (${status}::accepted.job_state is null or state = ${status}::accepted.job_state)
        and (${operation}::text is null or operation = ${operation})
      order by id desc limit ${limit + 1}
    ), extent as (
      select count(*)::int as looked_at, (array_agg(id order by id))[1] as last_looked_at from looked
    )
    select ${sql.join(jobColumns.map((name) => sql.ref(`job.${name}`)))}, extent.*
    from extent left join page on true left join accepted.job on job.id = page.id
    order by page.id desc`.execute(db)
  const jobs = rows.filter(({ id }) => id !== null)
  const page = jobs.slice(0, limit).map(({ looked_at: _, last_looked_at: __, ...job }) => job)
  const [first] = rows
  if (jobs.length > limit) return { jobs: page, next: page.at(-1)?.id }
  const isCut = first?.looked_at === lookedAt
  return { jobs: page, next: isCut ? first?.last_looked_at : undefined }
}
