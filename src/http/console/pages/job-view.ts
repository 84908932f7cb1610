import { sql, type Transaction } from 'kysely'
import type { Tables } from '../../../db/tables.ts'
import type { JobOverviewRow, StuckRow, TimelineRow } from '../../../db/views.ts'

export type JobRow = JobOverviewRow & { run_seconds: number | null }
export type StuckReason = Pick<StuckRow, 'why' | 'what_to_do'>

export const overviewColumns = sql`*, extract(epoch from running_for)::float8 as run_seconds`

/** A job that is related to another one. */
export type Relative = Pick<JobRow, 'id' | 'operation' | 'status' | 'percent' | 'children'> & {
  /** How it is related: to the job itself, or for a child to the job `parent`. */
  relation: 'child' | 'waits for' | 'awaited by' | 'retry'
  parent: string | null
  depth: number
}

/** What the page of a job shows, without its payload and result. */
export interface JobView {
  job: JobRow
  timeline: TimelineRow[]
  stuck: StuckReason[]
  relatives: Relative[]
}

const maxEvents = 500
const maxRelatives = 200
const maxDepth = 5

/** Reads a job with what has happened to it and with its relatives. */
export async function readJobView(trx: Transaction<Tables>, id: string): Promise<JobView | undefined> {
  const { rows } = await sql<JobRow>`
    select ${overviewColumns} from accepted.job_overview where id = ${id}`.execute(trx)
  const [job] = rows
  if (!job) return undefined
  const timeline = await sql<TimelineRow>`
    select at, event, attempt, worker, detail from accepted.timeline
    where job_id = ${id} and event <> 'child' order by at, event limit ${maxEvents}`.execute(trx)
  const stuck =
    job.ended_at === null
      ? (await sql<StuckReason>`select why, what_to_do from accepted.stuck where job_id = ${id}`.execute(trx)).rows
      : []
  return { job, timeline: timeline.rows, stuck, relatives: await readRelatives(trx, id) }
}

/** Reads the descendants of a job as a tree, the jobs that it waits for or that wait for it, and its retries. */
async function readRelatives(trx: Transaction<Tables>, id: string): Promise<Relative[]> {
  const { rows } = await sql<Relative>`
    with recursive descendant (id, parent, depth) as (
      (select id, parent, 1 from accepted.job where parent = ${id} order by id limit ${maxRelatives})
      union all
      select child.id, child.parent, depth + 1
      from descendant cross join lateral (
        select id, parent from accepted.job where job.parent = descendant.id order by id limit ${maxRelatives}
      ) child
      where depth < ${maxDepth}
    ), related (id, parent, depth, relation) as (
      (select id, parent, depth, 'child' from descendant limit ${maxRelatives})
      union all
      (select awaited_id, null, 1, 'waits for' from accepted.dependency where job_id = ${id} limit 100)
      union all
      (select job_id, null, 1, 'awaited by' from accepted.dependency where awaited_id = ${id} limit 100)
      union all
      (select id, null, 1, 'retry' from accepted.job where retry_of = ${id} limit 100)
    )
    select related.*, job.operation, job.status, job.percent, job.children
    from related cross join lateral (select * from accepted.job_overview where job_overview.id = related.id) job`.execute(
    trx,
  )
  return rows
}
