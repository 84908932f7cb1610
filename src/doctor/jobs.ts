import { sql } from 'kysely'
import { formatCount, formatNumber } from '../primitives/format-count.ts'
import { queueSchema } from '../queue/schema.ts'
import type { Check, CheckContext, Finding } from './check.ts'
import { literal } from './format.ts'

/** Whether each pending job has a row in the queue, and the reverse. Reads a bounded number of jobs. */
export const jobs: readonly Check[] = [
  { name: 'jobs in the queue', run: withoutQueueRow },
  { name: 'queue rows', run: withoutStatus },
]

interface Lost {
  id: string
  operation: string
  queue_state: string | null
}

/** The newest jobs, and the oldest that the workers have not compared for good, by the primary key. */
async function withoutQueueRow({ query, limits, note }: CheckContext): Promise<Finding[]> {
  const rows = await query(sql<Lost>`
    select job.id::text as id, job.operation, job.queue_state
    from (
      (select id from accepted.job order by id desc limit ${limits.comparedJobs})
      union
      (select id from accepted.job where id > (select ended_up_to from accepted.reconciliation)
        order by id limit ${limits.comparedJobs})
    ) chosen
    -- The limit keeps Postgres from joining the whole tables.
    cross join lateral (
      select id, operation, status, queue_state from accepted.job_overview where id = chosen.id limit 1
    ) job
    where job.status in ('queued', 'running')
      and (job.queue_state is null or job.queue_state in ('failed', 'completed', 'cancelled'))
      and not exists (select from accepted.parent where job_id = job.id)
      and not exists (select from accepted.ending where job_id = job.id)
    order by job.id`)
  note(`compared the newest and the oldest pending jobs, ${formatNumber(limits.comparedJobs)} each`)
  return summarize(rows, ({ queue_state }) => queue_state ?? '').map(([state, ofState]) => {
    const [first] = ofState as [Lost]
    const more = ofState.length > 1 ? ` (and ${formatCount(ofState.length - 1, 'more job')})` : ''
    return {
      code: state ? 'job-ended-in-queue' : 'job-without-queue-row',
      severity: 'error',
      message: state
        ? `The job ${first.id} of ${first.operation} is pending, but ${state} in the queue${more}: something other than a worker has changed ${queueSchema}.job.`
        : `The job ${first.id} of ${first.operation} is pending, but has no row in ${queueSchema}.job${more}: it never runs.`,
      action: `A worker ends such a job as failed or canceled within minutes: start one. Then run it again: select accepted.retry(${literal(first.id)})`,
      details: { jobIds: ofState.slice(0, limits.findings).map(({ id }) => id), jobs: ofState.length },
    }
  })
}

function summarize(rows: readonly Lost[], key: (row: Lost) => string): [string, Lost[]][] {
  return [...Map.groupBy(rows, key)]
}

/** Due jobs in the order in which they are claimed, and jobs in progress. */
async function withoutStatus({ query, limits }: CheckContext): Promise<Finding[]> {
  const queued = sql.id(queueSchema, 'job')
  const rows = await query(sql<{ id: string; operation: string }>`
    select row.id::text as id, row.name as operation
    from ${sql.id(queueSchema, 'queue')} queue
    cross join lateral (
      (select id, name, data from ${queued} job where job.name = queue.name and job.state < 'active' and not job.blocked
        order by job.priority desc, job.created_on limit ${limits.comparedJobs})
      union all
      (select id, name, data from ${queued} job
        where job.name = queue.name and job.state = 'active' and job.started_on is not null limit ${limits.comparedJobs})
    ) row
    -- pg-boss may re-create a row under another id. The limit keeps Postgres from reading the whole table.
    left join lateral (
      select id from accepted.job where id = case
        when row.data ->> 'job' ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then (row.data ->> 'job')::uuid
        else row.id
      end limit 1
    ) ours on true
    where queue.name !~ '^__pgboss__' and ours.id is null
    limit ${limits.comparedJobs}`)
  const [first] = rows
  if (!first) return []
  const more = rows.length > 1 ? ` (and ${formatCount(rows.length - 1, 'more row')})` : ''
  return [
    {
      code: 'queue-row-without-job',
      severity: 'error',
      message: `${queueSchema}.job has the row ${first.id} of ${first.operation}, but accepted.job has no such job${more}: no worker runs it.`,
      action: `Enqueue with accepted.enqueue(…). To remove the row: delete from ${queueSchema}.job where name = ${literal(first.operation)} and id = ${literal(first.id)}`,
      details: { ids: rows.slice(0, limits.findings).map(({ id }) => id), rows: rows.length },
    },
  ]
}
