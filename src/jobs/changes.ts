import { type Kysely, type RawBuilder, sql } from 'kysely'
import { runWithGenericPlan } from '../db/plan-settings.ts'
import type { Tables } from '../db/tables.ts'
import { type ChangePosition, contains } from './change-position.ts'
import { idIn, type Job, markCut, retryColumns, type SharedRow, sharedColumns } from './job.ts'

/** Which changes {@link readChanges} reads. */
export interface ChangeQuery {
  /** Maps the id of each watched job to the last sequence that was delivered. */
  watched: ReadonlyMap<string, number>
  /** The job ids from notifications. The jobs may belong to any principal. */
  notified: readonly string[]
  /** The principals whose jobs are watched. Of the notified jobs, only the jobs of these principals are read. */
  principals: readonly string[]
  /** An earlier position. If set, all jobs of `principals` that have changed since then are read too. */
  since?: ChangePosition | undefined
}

const selectWatched = (watched: ChangeQuery['watched']) => {
  const ids = [...watched.keys()]
  return sql`
    select ${sharedColumns}, ${retryColumns}
    from unnest(${ids}::uuid[], ${ids.map((id) => watched.get(id))}::bigint[]) as watched (id, delivered_sequence)
    join accepted.job on job.id = watched.id and ${idIn(ids)}
    where job.sequence > watched.delivered_sequence`
}

/** Selects jobs by id, and leaves out other principals. Without the offset, a plan may read all jobs of a principal. */
const selectOf = (principals: readonly string[], hasId: RawBuilder<boolean>) => sql`
  select job.*, ${retryColumns} from (select ${sharedColumns} from accepted.job where ${hasId} offset 0) as job
  where job.principal = any(${principals}::text[])`

/** Needs {@link withChanged}. */
const isChanged = sql<boolean>`
  job.id = any((select ids from changed)::uuid[])
  and job.id between (select ids[1] from changed) and (select ids[cardinality(ids)] from changed)`

const withChanged = (principals: readonly string[], since: ChangePosition) => sql`
  changed as materialized (
    select accepted.jobs_changed_since(${since}::pg_snapshot, ${principals}::text[]) as ids
  )`

/** The changed jobs. If the query has a `since`, also the position of the reader afterwards. */
export interface Changes {
  jobs: Job[]
  position: ChangePosition | undefined
}

/** Reads the jobs that have changed, in one statement. It may contain a job twice. Leaves out large results. */
export async function readChanges(db: Kysely<Tables>, query: ChangeQuery): Promise<Changes> {
  const { watched, notified, principals, since } = query
  const readsSince = since !== undefined && principals.length > 0
  const parts = [
    ...(watched.size > 0 ? [selectWatched(watched)] : []),
    ...(notified.length > 0 && principals.length > 0 ? [selectOf(principals, idIn(notified))] : []),
    ...(readsSince ? [selectOf(principals, isChanged)] : []),
  ]
  if (parts.length === 0) return { jobs: [], position: undefined }
  const changed = sql<SharedRow>`${sql.join(parts, sql` union all `)}`
  if (!readsSince) {
    return { jobs: (await runWithGenericPlan(db, changed)).rows.map(markCut), position: undefined }
  }
  const statement = sql<SharedRow & { position: ChangePosition }>`
    with ${withChanged(principals, since)}
    select job.*, position
    from (select pg_current_snapshot()::text as position) as now left join (${changed}) as job on true`
  const { rows } = await runWithGenericPlan(db, statement)
  return { jobs: rows.filter(({ id }) => id !== null).map(markCut), position: rows[0]?.position }
}

/**
 * Reads the jobs of a principal that have changed since a position, oldest change first. Returns undefined when more
 * than `limit` jobs have changed, or when the changes since then are no longer known. Leaves out large results.
 */
export async function readChangesSince(
  db: Kysely<Tables>,
  { principal, since, limit }: { principal: string; since: ChangePosition; limit: number },
): Promise<{ jobs: Job[]; position: ChangePosition } | undefined> {
  const statement = sql<SharedRow & { position: ChangePosition; deleted: ChangePosition }>`
    with ${withChanged([principal], since)}
    select job.*, position, deleted
    from (select pg_current_snapshot()::text as position, deleted::text from accepted.change_expiry) as now
    left join (${selectOf([principal], isChanged)} order by updated_at, id limit ${limit + 1}) as job on true`
  const { rows } = await runWithGenericPlan(db, statement)
  const [first] = rows
  if (!first || rows.length > limit || !contains(since, first.deleted) || !contains(first.position, since)) {
    return undefined
  }
  return { jobs: rows.filter(({ id }) => id !== null).map(markCut), position: first.position }
}

/** Reads the position of a reader that reads everything from now on. */
export async function readChangePosition(db: Kysely<Tables>): Promise<ChangePosition> {
  const { rows } = await sql<{ position: ChangePosition }>`select pg_current_snapshot()::text as position`.execute(db)
  return (rows as [{ position: ChangePosition }])[0].position
}
