import { sql } from 'kysely'
import type { Database } from '../src/db/database.ts'
import { reconcileEvery, unseenSince } from './reconcile.ts'
import { sweepEvery } from './silent.ts'

/** What there is to do. */
export interface Look {
  /** Operations with a job that is due. */
  operations: string[]
  hasSchedules: boolean
  hasSuspects: boolean
  /** It is time to sweep, for whoever is first. */
  hasSweeps: boolean
  /** When it is time to reconcile, for whoever is first: since when there may be changes that nobody sees yet. */
  unseenSince: Date | null
}

/**
 * Looks at everything that a worker does when there is reason to, in one statement: while there is none, that is all it
 * asks.
 *
 * @param operations those that it runs
 * @param schedules those that it fires
 */
export async function look(
  { kysely }: Database,
  operations: readonly string[],
  schedules: readonly string[],
): Promise<Look> {
  // The order is that of the index the claims use: the head of each queue is looked at, and not the whole of it.
  const { rows } = await sql<Look>`
    select
      array(
        select queue.name from unnest(${operations}::text[]) as queue (name)
        cross join lateral (
          select from pgboss.job
          where job.name = queue.name and job.state < 'active' and not job.blocked and job.start_after <= now()
          order by job.priority desc, job.created_on
          limit 1
        ) as next
      ) as operations,
      exists (
        select from accepted.schedule where name = any(${schedules}::text[]) and next_at <= now()
      ) as "hasSchedules",
      exists (select from accepted.suspect where operation = any(${operations}::text[])) as "hasSuspects",
      exists (
        select from accepted.sweep
        where operation = any(${operations}::text[]) and swept_at < now() - make_interval(secs => ${sweepEvery / 1000})
      ) as "hasSweeps",
      (
        select ${unseenSince} from accepted.reconciliation
        where looked_at < now() - make_interval(secs => ${reconcileEvery / 1000})
      ) as "unseenSince"`.execute(kysely)
  return rows[0] as Look
}
