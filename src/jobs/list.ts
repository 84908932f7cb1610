import { type Kysely, type RawBuilder, sql } from 'kysely'
import { MAX, NIL } from 'uuid'
import { runWithGenericPlan } from '../db/plan-settings.ts'
import type { JobStatus, Tables } from '../db/tables.ts'
import { type Job, jobColumns } from './job.ts'

/** Which jobs to list. */
export interface ListOptions {
  /** Undefined: jobs of all principals. */
  principal: string | undefined
  /** The operations whose jobs the caller may see. Default: all. */
  operations?: readonly string[] | undefined
  status?: JobStatus | undefined
  operation?: string | undefined
  /** Lists only the children of this job. */
  parent?: string | undefined
  /** Maximum number of jobs on the page. */
  limit: number
  /** Lists only jobs with a smaller id. A job with a smaller id is older. */
  before?: string | undefined
}

/** A job without its result, which can be large. The monitor and the result URL of the job contain the result. */
export type JobSummary = Job & { result: null }

/** A page of jobs, newest first. */
export interface JobPage {
  jobs: JobSummary[]
  /** The `before` of the next page. Undefined on the last page. */
  next: string | undefined
}

/** Maximum number of rows that a filtered page reads. */
const maxScannedRows = 10_000

/** Maximum size of a page in bytes of JSON. A page contains at least one job, even if the job is larger. */
const maxPageBytes = 1024 * 1024

/** An upper bound for the members of a monitor that are not measured: ids, times, numbers and links. */
const fixedBytes = 4 * 1024

const columns = sql.join(
  jobColumns.map((name) => (name === 'result' ? sql`null::jsonb as result` : sql.ref(`job.${name}`))),
)

// A resource is sent percent-encoded: up to three characters for a byte.
const monitorBytes = sql`
  ${fixedBytes} + coalesce(octet_length(to_json(job.message)::text), 0) + coalesce(octet_length(job.error::text), 0)
  + coalesce(3 * octet_length(job.resource), 0)`

/**
 * Reads a page of jobs, newest first (keyset pagination). A filtered page reads at most 10,000 rows. So
 * it may contain fewer jobs than `limit`, or no jobs, although there is a next page. A page also ends at 1 MiB, so that
 * many requests for large jobs do not exhaust the memory.
 */
export async function listJobs(db: Kysely<Tables>, options: ListOptions): Promise<JobPage> {
  const { principal, operations = null, status = null, operation = null, parent, limit, before = MAX } = options
  const scanLimit = status || operation || operations ? maxScannedRows : limit + 1
  const order =
    parent !== undefined
      ? sql`parent desc, id desc`
      : principal !== undefined
        ? sql`principal desc, id desc`
        : sql`id desc`
  const statement = sql<JobSummary & { last_scanned_id: string; scanned_rows: number; is_cut: boolean }>`
    with scanned as materialized (
      select id, status, operation from accepted.job
      where ${parent === undefined ? isOwnedAndOlder(principal, before) : isChildOf(parent, principal, before)}
        and (ended_at is null or expires_at > now())
      order by ${order} limit ${scanLimit}
    ), page as materialized (
      select id from scanned
      where (${status}::accepted.job_status is null or status = ${status}::accepted.job_status)
        and (${operation}::text is null or operation = ${operation})
        and (${operations}::text[] is null or operation = any(${operations}::text[]))
      order by id desc limit ${limit + 1}
    ), sized as materialized (
      select ${columns}, row_number() over newest_first as number, sum(${monitorBytes}) over newest_first as bytes
      from page cross join lateral (select * from accepted.job where job.id = page.id limit 1) as job
      window newest_first as (order by job.id desc)
    ), extent as (
      select (array_agg(id order by id))[1] as last_scanned_id, count(*)::int as scanned_rows,
        exists (select from sized where number > 1 and bytes > ${maxPageBytes}) as is_cut
      from scanned
    )
    select ${sql.join(jobColumns.map((name) => sql.ref(`sized.${name}`)))}, extent.*
    from extent left join sized on number = 1 or bytes <= ${maxPageBytes}
    order by sized.id desc`
  const { rows } = await runWithGenericPlan(db, statement)
  const found = rows.filter(({ id }) => id !== null)
  const jobs = found.slice(0, limit).map(({ scanned_rows: _, last_scanned_id: __, is_cut: ___, ...job }) => job)
  const [first] = rows
  if (found.length > limit || first?.is_cut) return { jobs, next: jobs.at(-1)?.id }
  const hasReachedLimit = first?.scanned_rows === scanLimit
  return { jobs, next: hasReachedLimit ? first?.last_scanned_id : undefined }
}

/**
 * A condition on a job: the column has the value, and the id is lower than `before`. The row comparisons, together with
 * the order by both columns, match only the index on both columns, for which `principal >= …` proves that the value is
 * not null. With an equation, a plan may read all jobs in the order of the primary key instead.
 */
const isOlderOf = (column: 'principal' | 'parent', value: string, before: string): RawBuilder<boolean> => {
  const [name, type] = [sql.ref(column), sql.raw(column === 'principal' ? 'text' : 'uuid')]
  return sql`${name} >= ${value}::${type} and (${name}, id) >= (${value}::${type}, ${NIL}::uuid)
    and (${name}, id) < (${value}::${type}, ${before}::uuid)`
}

/** A condition on a job: it belongs to the principal, if there is one, and its id is lower than `before`. */
const isOwnedAndOlder = (principal: string | undefined, before: string): RawBuilder<boolean> =>
  principal === undefined ? sql`id < ${before}::uuid` : isOlderOf('principal', principal, before)

/** For the parent of another principal, no child is read. */
const isChildOf = (parent: string, principal: string | undefined, before: string): RawBuilder<boolean> =>
  principal === undefined
    ? isOlderOf('parent', parent, before)
    : sql`
  (select exists (select from accepted.job where id = ${parent} and principal = ${principal} offset 0))
  -- A plain column would match the index on the principal, and a plan may then read all of the principal's jobs.
  and ${isOlderOf('parent', parent, before)} and principal || '' = ${principal}`

/** Returns whether a job has children of other operations than the given ones. */
export async function hasOtherChildren(
  db: Kysely<Tables>,
  parent: string,
  operations: readonly string[],
): Promise<boolean> {
  const query = sql`
    select from accepted.job where ${isOlderOf('parent', parent, MAX)} and operation <> all(${operations}::text[]) limit 1`
  return (await runWithGenericPlan(db, query)).rows.length > 0
}
