import { type RawBuilder, sql } from 'kysely'
import type { Logger } from 'pino'
import type { PgBoss } from '../src/db/boss.ts'
import type { Database } from '../src/db/database.ts'
import type { Notifier } from '../src/db/notifier.ts'
import type { JobErrorColumn } from '../src/db/tables.ts'
import { oldestTransaction } from '../src/db/transaction.ts'
import { among } from '../src/jobs/job.ts'
import { pendingList } from '../src/jobs/state.ts'
import { type EndedJob, endpointsToTell, enqueueDeliveries } from '../src/jobs/webhook-delivery.ts'
import { type AnyTransaction, keepSeconds } from '../src/operation.ts'
import { writeQueued } from './status.ts'

/** How a pending job stands in the queue, when that is not how a pending job should. */
type Standing = 'failed' | 'completed' | 'cancelled' | 'missing' | 'waiting' | 'blocked'

/** Why a job has failed that the queue has ended otherwise than our workers would have. */
const errors: Readonly<Record<'failed' | 'completed' | 'missing', JobErrorColumn>> = {
  failed: { code: 'worker-lost', message: 'The worker took too long, and no attempt is left' },
  completed: {
    code: 'completed-elsewhere',
    message: 'Somebody has completed the job in the queue; its work was not done',
  },
  missing: {
    code: 'queue-lost',
    message: 'The job has been deleted from the queue before it could run; send the request again',
  },
}

/** How often a piece is looked at, in milliseconds. */
export const reconcileEvery = 5_000
/** Jobs looked at in a round's piece; the rows are read in the order of their primary key. */
const pieceSize = 10_000
/** Jobs brought in line at once. */
const mostAtOnce = 5_000
/** Ids are made by the clocks of the APIs, and a transaction may take its time. */
const oldestNewcomer = sql`interval '3 hours'`

/** What ended before, when nobody was there to look, is found on the way through all. */
const longestPause = sql`interval '10 minutes'`

export interface ReconcilerOptions {
  database: Database
  boss: PgBoss
  hints: Notifier
  log: Logger
}

/** Whoever ends a job in the queue dates it when he begins, and it is seen when he has committed. */
export const unseenSince = oldestTransaction(sql`interval '1 second'`, longestPause)

/**
 * Makes the chore that brings `accepted.job` in line with `pgboss.job` when something other than our workers has changed
 * that: pg-boss's own supervision, its dashboard, somebody's SQL. What was canceled or failed there is found by an index,
 * everything else on the way through all jobs, {@link pieceSize} each {@link reconcileEvery}, of which
 * {@link mostAtOnce} are brought in line. The workers take turns, so that however many there are, that is all it costs.
 */
export function createReconciler({ database, boss, hints, log }: ReconcilerOptions): (since: Date) => Promise<void> {
  return async (since) => {
    const found = await lookInTurn(database, since)
    if (found.length === 0) return
    const { changed, enqueued } = await database.kysely
      .transaction()
      .execute((trx) => bringInLine(boss, trx as unknown as AnyTransaction, found))
    if (changed.length > 0) log.warn({ jobs: changed }, 'Jobs were brought in line with the queue')
    hints.notify('status', changed)
    hints.notify('work', enqueued)
  }
}

// Each look-up by itself: a join of the whole would be tempted to read the whole queue.
const queued = sql`
  left join lateral (
    select state, retry_count, blocked, pending_dependencies, data from pgboss.job queued
    where queued.name = job.operation and queued.id = job.id limit 1
  ) queue on true`

const standing: RawBuilder<Standing | null> = sql`
  case
    when queue.state is null then 'missing'
    when queue.state in ('failed', 'completed', 'cancelled') then queue.state::text
    when queue.state < 'active' and job.state = 'running' and queue.retry_count >= job.attempt - 1 then 'waiting'
    when queue.blocked and queue.pending_dependencies = 0
      and not exists (select from accepted.suspect where job_id = job.id) then 'blocked'
  end`

/**
 * The jobs that seem out of line: in the next piece, and among those that have ended in the queue since the last look.
 * None when another worker has just looked. By hand a job may be ended without a date.
 */
async function lookInTurn({ kysely }: Database, since: Date): Promise<string[]> {
  const { rows } = await sql<{ found: string[] }>`
    with turn as materialized (
      select ended_up_to, position, horizon from accepted.reconciliation
      where looked_at < now() - make_interval(secs => ${reconcileEvery / 1000}) for update skip locked
    ), job as materialized (
      select piece.* from turn cross join lateral (
        select id, operation, state, attempt from accepted.job where id > turn.position order by id limit ${pieceSize}
      ) piece
    ), pending as materialized (
      select job.id, ${standing} as standing from job ${queued} where job.state in ${pendingList} order by job.id
    ), out_of_line as materialized (
      select array(select id from pending where standing is not null order by id limit ${mostAtOnce}) as ids
    ), ended as materialized (
      select recent.* from turn cross join lateral (
        select job.id, queue.completed_on from pgboss.job queue
        join accepted.job on job.id = queue.id
        where queue.state in ('cancelled', 'failed')
          and (
            queue.completed_on >= greatest(turn.horizon, now() - ${longestPause}) or queue.completed_on is null
          ) and job.state in ${pendingList}
        order by queue.completed_on nulls first limit ${mostAtOnce}
      ) recent
    ), piece as (
      select
        -- The piece goes up to here; none when it is the last one of the round.
        case
          when cardinality(out_of_line.ids) = ${mostAtOnce} then out_of_line.ids[${mostAtOnce}]
          else (select id from job order by id offset ${pieceSize - 1})
        end as last,
        -- Up to here every job has ended, and no new one can come.
        case when turn.position = turn.ended_up_to then (
          select id from job
          where id < coalesce((select id from pending limit 1), 'ffffffff-ffff-ffff-ffff-ffffffffffff')
            and id < accepted.uuid_floor(now() - ${oldestNewcomer})
          order by id desc limit 1
        ) end as ended_up_to
      from out_of_line, turn
    ), moved as (
      update accepted.reconciliation set
        horizon = case
          when (select count(*) from ended) < ${mostAtOnce} then ${since}
          else coalesce((select max(completed_on) from ended), horizon)
        end,
        position = coalesce(piece.last, piece.ended_up_to, reconciliation.ended_up_to),
        ended_up_to = greatest(reconciliation.ended_up_to, piece.ended_up_to),
        looked_at = now()
      from piece
      returning only_row
    )
    select out_of_line.ids || array(select id from ended where id <> all(out_of_line.ids)) as found
    from out_of_line, moved`.execute(kysely)
  return rows[0]?.found ?? []
}

interface OutOfLine {
  id: string
  operation: string
  standing: Standing
  payload: unknown
}

async function bringInLine(boss: PgBoss, trx: AnyTransaction, ids: readonly string[]) {
  // Somebody who has one locked is about to change it.
  const { rows } = await sql<OutOfLine>`
    select job.id, job.operation, ${standing} as standing, queue.data -> 'payload' as payload
    from accepted.job ${queued}
    where job.id = any(${ids}::uuid[]) and job.state in ${pendingList} and ${standing} is not null
    order by job.id for update of job skip locked`.execute(trx)
  const elsewhere = await findElsewhere(
    trx,
    rows.filter(({ standing }) => standing === 'missing'),
  )
  const jobs = rows.filter(({ id }) => !elsewhere.has(id))
  const of = (...standings: Standing[]) => jobs.filter(({ standing }) => standings.includes(standing))
  await writeQueued(
    trx,
    of('waiting').map(({ id }) => id),
  )
  await unblock(trx, of('blocked'))
  const ended = await end(trx, of('failed', 'completed', 'missing', 'cancelled'))
  return { changed: jobs.map(({ id }) => id), enqueued: await enqueueDeliveries(boss, trx, ended) }
}

/** Of jobs without a row of their id, those that a row under another id names: pg-boss has made it anew. */
async function findElsewhere(trx: AnyTransaction, missing: readonly OutOfLine[]): Promise<Set<string>> {
  if (missing.length === 0) return new Set()
  const { rows } = await sql<{ job: string }>`
    select data ->> 'job' as job from pgboss.job
    where name = any(${[...new Set(missing.map(({ operation }) => operation))]}) and state <= 'active'
      and data ->> 'job' = any(${missing.map(({ id }) => id)})`.execute(trx)
  return new Set(rows.map(({ job }) => job))
}

async function unblock(trx: AnyTransaction, jobs: readonly OutOfLine[]): Promise<void> {
  if (jobs.length === 0) return
  await sql`
    update pgboss.job set blocked = false
    from unnest(${jobs.map(({ id }) => id)}::uuid[], ${jobs.map(({ operation }) => operation)}::text[]) as ours (id, name)
    where job.id = ours.id and job.name = ours.name and job.pending_dependencies = 0`.execute(trx)
}

/** The payload is kept, for a retry. */
async function end(trx: AnyTransaction, jobs: readonly OutOfLine[]): Promise<EndedJob[]> {
  if (jobs.length === 0) return []
  const ids = jobs.map(({ id }) => id)
  const { rows } = await sql<EndedJob>`
    update accepted.job set
      state = ended.state::accepted.job_state, error = ended.error, payload = ended.payload,
      ended_at = statement_timestamp(), updated_at = statement_timestamp(), sequence = sequence + 1,
      expires_at = now() + make_interval(secs => ${keepSeconds})
    from unnest(
      ${ids}::uuid[],
      ${jobs.map(({ standing }) => (standing === 'cancelled' ? 'canceled' : 'failed'))}::text[],
      ${jobs.map(({ standing }) => JSON.stringify(errors[standing as keyof typeof errors]) ?? null)}::jsonb[],
      ${jobs.map(({ payload }) => JSON.stringify(payload) ?? null)}::jsonb[]
    ) as ended (id, state, error, payload)
    where ${among(ids)} and job.id = ended.id
    returning job.id, ${endpointsToTell}`.execute(trx)
  return rows
}
