import { type RawBuilder, sql } from 'kysely'
import type { JobErrorColumn } from '../../src/db/tables.ts'
import { idIn } from '../../src/jobs/job.ts'
import { endedColumns } from '../../src/jobs/relatives.ts'
import type { EndedJob } from '../../src/jobs/webhook-delivery.ts'
import { type AnyTransaction, defaultKeepSeconds } from '../../src/operation.ts'
import type { Discrepancy } from '../../src/queue/reconciliation.ts'

/** The errors of jobs whose queue row another program, not a worker, has failed, completed or deleted. */
const errors: Readonly<Record<'failed' | 'completed' | 'missing', JobErrorColumn>> = {
  failed: {
    code: 'failed-elsewhere',
    message: 'Another program, or pg-boss after the time limit, marked the job as failed in the queue',
  },
  completed: {
    code: 'completed-elsewhere',
    message: 'Another program marked the job as completed in the queue; the work of the job was not done',
  },
  missing: {
    code: 'queue-lost',
    message: 'The job has no row in the queue, so it could not run; send the request again',
  },
}

/** A locked job that disagrees with the queue. */
export interface WrongJob {
  id: string
  operation: string
  discrepancy: Discrepancy
  /** JSON; null when the queue has lost the payload. Then the job cannot be retried. */
  payload: string | null
  has_abandon: boolean
}

const statusOf = ({ discrepancy }: WrongJob) => (discrepancy === 'cancelled' ? 'canceled' : 'failed')

const errorOf = ({ discrepancy }: WrongJob): JobErrorColumn | undefined => errors[discrepancy as keyof typeof errors]

/**
 * Ends jobs with the outcome that the queue shows. Keeps the payload for a retry, if the queue still has it. If the
 * operation of a job has `abandon`, only decides the end.
 */
export async function endJobs(trx: AnyTransaction, found: readonly WrongJob[]): Promise<EndedJob[]> {
  const decided = found.filter(({ has_abandon }) => has_abandon)
  if (decided.length > 0) {
    const ends = decided.map((job) => ({ id: job.id, status: statusOf(job), error: errorOf(job) }))
    await sql`select accepted.decide_ends(${JSON.stringify(ends)}::jsonb)`.execute(trx)
  }
  const jobs = found.filter(({ has_abandon }) => !has_abandon)
  if (jobs.length === 0) return []
  const ids = jobs.map(({ id }) => id)
  const column = (value: (job: WrongJob) => string | null): RawBuilder<unknown> => sql`${jobs.map(value)}`
  const { rows } = await sql<EndedJob>`
    update accepted.job set
      status = ended.status::accepted.job_status, error = ended.error, payload = ended.payload,
      waiting_for = null,      ended_at = statement_timestamp(), updated_at = statement_timestamp(), sequence = sequence + 1,
      expires_at = now() + make_interval(secs => coalesce(
        (select keep_seconds from accepted.operation where name = job.operation), ${defaultKeepSeconds}))
    from unnest(
      ${ids}::uuid[],
      ${column(statusOf)}::text[],
      ${column((job) => JSON.stringify(errorOf(job)) ?? null)}::jsonb[],
      ${column(({ payload }) => payload)}::jsonb[]
    ) as ended (id, status, error, payload)
    where ${idIn(ids)} and job.id = ended.id
    returning job.id, ${endedColumns}`.execute(trx)
  return rows
}
