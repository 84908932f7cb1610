import { type Kysely, sql } from 'kysely'
import { queueJob } from '../src/queue/schema.ts'

interface TimelineRow {
  seconds: number
  event: string
  attempt: number | null
  detail: string | null
}

/** Describes the life of a job for people: its error, and what happened to it when. */
export async function describeJob(db: Kysely<unknown>, id: string): Promise<string> {
  const { rows: events } = await sql<TimelineRow>`
    select extract(epoch from at - min(at) over ())::float8 as seconds, event, attempt, detail
    from accepted.timeline where job_id = ${id} order by at, event`.execute(db)
  const { rows } = await sql<{ error: { code: string; message: string } | null }>`
    select error from accepted.job where id = ${id}`.execute(db)
  const error = rows[0]?.error
  const lines = events.map(({ seconds, event, attempt, detail }) => {
    const number = attempt === null ? '' : ` (attempt ${attempt})`
    return `  +${seconds.toFixed(3)} s  ${event}${number}${detail ? `: ${detail}` : ''}`
  })
  return [...(error ? [`  error: ${error.code}: ${error.message}`] : []), ...lines].join('\n')
}

/** Maximum number of jobs that an error names. */
const maxNamed = 10

/** Describes the jobs that are running or due, and the schedules that are due. */
export async function describeDue(db: Kysely<unknown>, now: Date): Promise<string> {
  const { rows } = await sql<{ text: string }>`
    select format('job %s of %s is %s', job.id, job.operation, case
      when queued.state = 'active' then 'running (attempt ' || job.attempt || ')' else 'due' end) as text
    from accepted.job join ${queueJob} queued on queued.name = job.operation and queued.id = job.id
    where job.ended_at is null and (queued.state = 'active'
      or queued.state < 'active' and queued.start_after <= now()
        and (not queued.blocked or exists (select from accepted.quarantine where job_id = job.id)))
    union all
    select format('schedule %s is due', name) from accepted.schedule where next_at <= ${now.toISOString()}::timestamptz
    union all
    select format('job %s of %s waits for abandon, which has thrown: %s', job_id, operation, last_error)
    from accepted.ending where due_at <= now()
    limit ${maxNamed + 1}`.execute(db)
  const lines = rows.slice(0, maxNamed).map(({ text }) => `  ${text}`)
  return [...lines, ...(rows.length > maxNamed ? ['  …'] : [])].join('\n')
}
