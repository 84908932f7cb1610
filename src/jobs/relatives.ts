import { sql } from 'kysely'
import { runWithGenericPlan } from '../db/plan-settings.ts'
import type { AnyTransaction } from '../operation.ts'
import type { PgBoss } from '../queue/boss.ts'
import { idIn } from './job.ts'
import { type EndedJob, enqueueDeliveries, matchingEndpoints } from './webhook-delivery.ts'

/**
 * The columns of {@link EndedJob}, besides its id. Add them to the `returning` list of the statement that ends the jobs.
 * The lookup of waiting jobs costs nothing while no job waits for another.
 */
export const endedColumns = sql`
  ${matchingEndpoints},
  job.parent is not null or (select exists (select from accepted.dependency)) and exists (
    select from accepted.dependency where awaited_id = job.id offset 0
  ) as has_relatives`

/** What has followed from the end of jobs. */
export interface Followed {
  /** Other jobs that have changed. Notify their watchers after the commit. */
  jobs: string[]
  /** The operations that have new due jobs. Notify their workers after the commit. */
  enqueued: string[]
}

export const nothingFollowed: Followed = { jobs: [], enqueued: [] }

/**
 * Does what follows from jobs that end in the transaction: enqueues their webhook deliveries, starts or cancels the jobs
 * that wait for them, and ends the parents whose last child has ended.
 *
 * @param areClaimed whether workers have claimed all of these jobs. If not, transactions that end children of the same
 *   parent run one after the other.
 */
export async function followEnds(
  boss: PgBoss,
  trx: AnyTransaction,
  ended: readonly EndedJob[],
  { areClaimed }: { areClaimed: boolean },
): Promise<Followed> {
  const deliveries = await enqueueDeliveries(boss, trx, ended)
  const related = ended.filter(({ has_relatives }) => has_relatives).map(({ id }) => id)
  if (related.length === 0) return { jobs: [], enqueued: deliveries }
  const { rows } = await sql<ResolvedRow>`
    select * from accepted.resolve_ends(${related}::uuid[], ${areClaimed})`.execute(trx)
  const { jobs, enqueued } = toFollowed(rows)
  return { jobs, enqueued: [...deliveries, ...enqueued] }
}

/** A row of `accepted.resolve_ends`. */
export interface ResolvedRow {
  changed: string
  enqueued: string | null
}

export const toFollowed = (rows: readonly ResolvedRow[]): Followed => ({
  jobs: rows.map(({ changed }) => changed),
  enqueued: rows.flatMap(({ enqueued }) => enqueued ?? []),
})

/**
 * Waits until no other transaction that has called this function holds siblings of these jobs: jobs with the same
 * parent. Call it before the jobs are locked, in a transaction that has failed because of a deadlock. A transaction that
 * ends a child may cancel the parent, and so lock all other children. Two such transactions at a time, each of which
 * has locked its own child, would only deadlock again.
 */
export async function waitForSiblings(trx: AnyTransaction, ids: readonly string[]): Promise<void> {
  const statement = sql`
    select pg_advisory_xact_lock(hashtextextended('accepted siblings ' || parent, 0))
    from (
      select distinct job.parent from accepted.job where ${idIn(ids)} and job.parent is not null order by job.parent
    ) parents`
  await runWithGenericPlan(trx, statement)
}
