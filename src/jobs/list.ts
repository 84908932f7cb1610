import { type Kysely, sql } from 'kysely'
import type { JobStatus, Tables } from '../db/tables.ts'
import { type Job, jobColumns } from './job.ts'

/** Which jobs of a principal to list. */
export interface ListOptions {
  principal: string
  status?: JobStatus | undefined
  operation?: string | undefined
  /** Maximum number of jobs on the page. */
  limit: number
  /** Lists only jobs with a smaller id. A job with a smaller id is older. */
  before?: string | undefined
}

/** A page of jobs, newest first. */
export interface JobPage {
  jobs: Job[]
  /** The `before` of the next page. Undefined on the last page. */
  next: string | undefined
}

/** Maximum number of rows that a filtered page reads. */
const maxScannedRows = 10_000

const maxId = 'ffffffff-ffff-ffff-ffff-ffffffffffff'

/**
 * Reads a page of a principal's jobs, newest first (keyset pagination). A filtered page reads at most 10,000 rows. So
 * it may contain fewer jobs than `limit`, or no jobs, although there is a next page.
 */
export async function listJobs(db: Kysely<Tables>, options: ListOptions): Promise<JobPage> {
  const { principal, status = null, operation = null, limit, before = maxId } = options
  const scanLimit = status || operation ? maxScannedRows : limit + 1
  const { rows } = await sql<Job & { last_scanned_id: string; scanned_rows: number }>`
    with scanned as materialized (
      select id, status, operation from accepted.job
      where principal = ${principal} and id < ${before} and (ended_at is null or expires_at > now())
      order by id desc limit ${scanLimit}
    ), page as materialized (
      select id from scanned
      where (${status}::accepted.job_status is null or status = ${status}::accepted.job_status)
        and (${operation}::text is null or operation = ${operation})
      order by id desc limit ${limit + 1}
    ), extent as (
      select count(*)::int as scanned_rows, (array_agg(id order by id))[1] as last_scanned_id from scanned
    )
    select ${sql.join(jobColumns.map((name) => sql.ref(`job.${name}`)))}, extent.*
    from extent left join page on true left join accepted.job on job.id = page.id
    order by page.id desc`.execute(db)
  const jobs = rows.filter(({ id }) => id !== null)
  const page = jobs.slice(0, limit).map(({ scanned_rows: _, last_scanned_id: __, ...job }) => job)
  const [first] = rows
  if (jobs.length > limit) return { jobs: page, next: page.at(-1)?.id }
  const hasReachedLimit = first?.scanned_rows === scanLimit
  return { jobs: page, next: hasReachedLimit ? first?.last_scanned_id : undefined }
}
