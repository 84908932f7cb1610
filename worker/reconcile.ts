import { sql } from 'kysely'
import type { Logger } from 'pino'
import type { PgBoss } from '../src/db/boss.ts'
import type { Database } from '../src/db/database.ts'
import type { JobErrorColumn } from '../src/db/tables.ts'
import { pendingList } from '../src/jobs/state.ts'
import { type EndedJob, endpointsToTell, enqueueDeliveries } from '../src/jobs/webhook-delivery.ts'
import { type AnyTransaction, keepSeconds } from '../src/operation.ts'

const workerLost: JobErrorColumn = {
  code: 'worker-lost',
  message: 'The worker died or took too long, and no attempt is left',
}

/** Jobs looked at in one round, at most. */
const mostAtOnce = 1_000

/**
 * Brings the status in line with the queue where something ended or sent back a job behind our back: pg-boss's own
 * sweep of silent and overdue jobs, or somebody's SQL. Answers the jobs whose status has changed.
 */
export async function reconcile(
  { kysely }: Database,
  boss: PgBoss,
  operations: readonly string[],
  log: Logger,
): Promise<string[]> {
  const queued = await kysely.transaction().execute((trx) => requeue(trx as unknown as AnyTransaction, operations))
  const failed = await kysely
    .transaction()
    .execute((trx) => failLost(boss, trx as unknown as AnyTransaction, operations))
  const changed = [...queued, ...failed]
  if (changed.length > 0) log.warn({ queued, failed }, 'Jobs of lost workers were brought in line')
  return changed
}

/** Shown as running, but waiting for a retry. */
async function requeue(trx: AnyTransaction, operations: readonly string[]): Promise<string[]> {
  const { rows } = await sql<{ id: string }>`
    with lost as (
      select job.id, job.attempt, job.attempt_started_at as started_at
      from pgboss.job queue
      join accepted.job on job.id = (queue.data ->> 'job')::uuid
      where queue.name = any(${operations}) and queue.state < 'active' and not queue.blocked
        and queue.retry_count = job.attempt - 1 and job.state = 'running'
      order by job.id limit ${mostAtOnce} for update of job skip locked
    ), attempts as (
      insert into accepted.attempt (job_id, attempt, error, started_at)
      select id, attempt, ${JSON.stringify(workerLost)}, started_at from lost
      on conflict on constraint attempt_pkey do nothing
    )
    update accepted.job set state = 'queued', sequence = sequence + 1, updated_at = statement_timestamp()
    from lost where job.id = lost.id
    returning job.id`.execute(trx)
  return rows.map(({ id }) => id)
}

/** Shown as pending, but failed in the queue, with no attempt left. */
async function failLost(boss: PgBoss, trx: AnyTransaction, operations: readonly string[]): Promise<string[]> {
  const { rows } = await sql<EndedJob>`
    with lost as (
      select job.id, job.attempt, job.attempt_started_at as started_at, queue.data -> 'payload' as payload
      from pgboss.job queue
      join accepted.job on job.id = (queue.data ->> 'job')::uuid
      where queue.name = any(${operations}) and queue.state = 'failed'
        and job.state in ${pendingList}
      order by job.id limit ${mostAtOnce} for update of job skip locked
    ), attempts as (
      insert into accepted.attempt (job_id, attempt, error, started_at)
      select id, attempt, ${JSON.stringify(workerLost)}, started_at from lost
      on conflict on constraint attempt_pkey do nothing
    )
    update accepted.job set
      state = 'failed', error = ${JSON.stringify(workerLost)}, payload = lost.payload,
      ended_at = statement_timestamp(), updated_at = statement_timestamp(), sequence = sequence + 1,
      expires_at = now() + make_interval(secs => ${keepSeconds})
    from lost where job.id = lost.id
    returning job.id, ${endpointsToTell}`.execute(trx)
  await enqueueDeliveries(boss, trx, rows)
  return rows.map(({ id }) => id)
}
