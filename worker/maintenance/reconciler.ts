import { sql } from 'kysely'
import type { Logger } from 'pino'
import type { Database } from '../../src/db/database.ts'
import { rowLock } from '../../src/db/locks.ts'
import type { Notifier } from '../../src/db/notifier.ts'
import { runUnprepared, useGenericPlan } from '../../src/db/plan-settings.ts'
import { idIn } from '../../src/jobs/job.ts'
import { followEnds } from '../../src/jobs/relatives.ts'
import { pendingStatusesSql } from '../../src/jobs/status.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import type { PgBoss } from '../../src/queue/boss.ts'
import {
  type Discrepancy,
  discrepancy,
  endedInQueueSince,
  findRecreated,
  joinQueueRow,
  queuedPayload,
  unblock,
} from '../../src/queue/reconciliation.ts'
import { writeQueued } from '../execution/job-status.ts'
import { endJobs, type WrongJob } from './end-reconciled.ts'

/** How often a part of the jobs is compared with the queue, in milliseconds. */
export const compareIntervalMs = 5_000
/** Maximum number of jobs per comparison. They are read in the order of their primary key. */
const maxComparedJobs = 10_000
/**
 * Maximum number of jobs that one search returns for correction. There are two searches: the comparison and the index.
 */
const maxCorrectedJobs = 5_000
/**
 * Maximum time from the creation of a job's id to the insertion of the job. Allows for clock differences and long
 * transactions.
 */
const maxInsertDelay = sql`interval '3 hours'`
/**
 * The search for jobs that have ended in the queue goes back no further than this. The comparison of all jobs finds
 * older changes, which were made while no worker ran or by a transaction that was open for longer.
 */
const maxSearchedAge = sql`interval '10 minutes'`
/**
 * In the queue, the end time of a job is the start time of the transaction that ended it. The transaction may get its
 * id this much later.
 */
const maxIdDelay = sql`interval '1 second'`

/** A condition on `accepted.reconciliation`. Every role can read it, unlike the transactions in pg_stat_activity. */
const haveEnded = sql<boolean>`pg_snapshot_xmin(pg_current_snapshot()) >= reconciliation.observed_xmax`

const isPending = sql<boolean>`job.status in ${pendingStatusesSql}`

/**
 * A condition on `job`: its end is not decided, and it does not run until its children have ended. Other jobs rightly
 * have no pending row in the queue.
 */
const isUndecided = sql<boolean>`not exists (select from accepted.ending where job_id = job.id offset 0)
  and not exists (select from accepted.parent where job_id = job.id offset 0)`

export interface ReconcilerOptions {
  database: Database
  boss: PgBoss
  notifier: Notifier
  log: Logger
}

/**
 * Creates the task that corrects `accepted.job` after something other than our workers has changed the queue: pg-boss's
 * own supervision, its dashboard, or SQL by hand. An index finds jobs that were canceled or failed in the queue. A
 * comparison of all jobs finds all other changes: {@link maxComparedJobs} jobs are compared every
 * {@link compareIntervalMs}. The workers take turns, so the cost does not grow with the number of workers.
 */
export function createReconciler({ database, boss, notifier, log }: ReconcilerOptions): () => Promise<void> {
  return async () => {
    const found = await findDiscrepancies(database)
    if (found.length === 0) return
    const { changed, enqueued } = await database.kysely
      .transaction()
      .execute((trx) => correct(boss, trx as unknown as AnyTransaction, found))
    if (changed.length > 0) log.warn({ jobs: changed }, 'Jobs were changed in the queue; their status was corrected')
    notifier.notify('status', changed)
    notifier.notify('work', enqueued)
  }
}

/**
 * Returns the ids of jobs that seem to disagree with the queue. Looks at the next part of all jobs, and at the jobs
 * that have ended in the queue since the last search. Returns no ids when another worker has just searched.
 */
async function findDiscrepancies({ kysely }: Database): Promise<string[]> {
  const since = sql`greatest(turn.ended_before, now() - ${maxSearchedAge})`
  const statement = sql<{ found: string[] }>`
    with turn as materialized (
      select ended_up_to, position, ended_before from accepted.reconciliation
      where compared_at < now() - make_interval(secs => ${compareIntervalMs / 1000}) ${rowLock.skip}
    ), job as materialized (
      select part.* from turn cross join lateral (
        select id, operation, status, attempt from accepted.job where id > turn.position
        order by id limit ${maxComparedJobs}
      ) part
    ), pending as materialized (
      select job.id, ${discrepancy} as discrepancy from job ${joinQueueRow} where ${isPending} order by job.id
    ), wrong as materialized (
      select array(
        select id from pending job where discrepancy is not null and ${isUndecided} order by id limit ${maxCorrectedJobs}
      ) as ids
    ), ended as materialized (
      select recent.* from turn
      cross join lateral ${endedInQueueSince(since, sql`${isPending} and ${isUndecided}`, maxCorrectedJobs)} as recent
    ), part as (
      select
        -- The last id of this part; null when this part reaches the newest job.
        case
          when cardinality(wrong.ids) = ${maxCorrectedJobs} then wrong.ids[${maxCorrectedJobs}]
          else (select id from job order by id offset ${maxComparedJobs - 1})
        end as last,
        -- Every job up to this id has ended, and no new job can have so low an id.
        case when turn.position = turn.ended_up_to then (
          select id from job
          where id < coalesce((select id from pending limit 1), 'ffffffff-ffff-ffff-ffff-ffffffffffff')
            and id < accepted.uuid_floor(now() - ${maxInsertDelay})
          order by id desc limit 1
        ) end as ended_up_to
      from wrong, turn
    ), moved as (
      update accepted.reconciliation set
        -- When all transactions that had an id at observed_at have ended, this search has seen their changes.
        ended_before = case
          when (select count(*) from ended) = ${maxCorrectedJobs} then
            coalesce((select max(ended_at) from ended), ended_before)
          when ${haveEnded} then observed_at - ${maxIdDelay}
          else ended_before
        end,
        observed_at = case when ${haveEnded} then now() else observed_at end,
        observed_xmax = case when ${haveEnded} then pg_snapshot_xmax(pg_current_snapshot()) else observed_xmax end,
        position = coalesce(part.last, part.ended_up_to, reconciliation.ended_up_to),
        ended_up_to = greatest(reconciliation.ended_up_to, part.ended_up_to),
        compared_at = now()
      from part
      returning only_row
    )
    select wrong.ids || array(select id from ended where id <> all(wrong.ids)) as found
    from wrong, moved`
  const { rows } = await runUnprepared(kysely, statement)
  return rows[0]?.found ?? []
}

async function correct(boss: PgBoss, trx: AnyTransaction, ids: readonly string[]) {
  await useGenericPlan(trx)
  // Skips locked jobs. The transaction that has locked a job is about to change that job.
  const { rows } = await sql<WrongJob>`
    select job.id, job.operation, ${discrepancy} as discrepancy, ${queuedPayload} as payload,
      exists (select from accepted.operation where name = job.operation and has_abandon) as has_abandon
    from accepted.job ${joinQueueRow}
    where ${idIn(ids)} and ${isPending} and ${discrepancy} is not null and ${isUndecided}
    order by job.id for update of job skip locked`.execute(trx)
  const missing = rows.filter(({ discrepancy }) => discrepancy === 'missing')
  const recreated = await findRecreated(trx, missing)
  const jobs = rows.filter(({ id }) => !recreated.has(id))
  const having = (...kinds: Discrepancy[]) => jobs.filter(({ discrepancy }) => kinds.includes(discrepancy))
  await writeQueued(
    trx,
    having('waiting').map(({ id }) => id),
  )
  await unblock(trx, having('blocked'))
  const ended = await endJobs(trx, having('failed', 'completed', 'missing', 'cancelled'))
  const followed = await followEnds(boss, trx, ended, { areClaimed: false })
  return { changed: [...jobs.map(({ id }) => id), ...followed.jobs], enqueued: followed.enqueued }
}
