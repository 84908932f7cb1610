import { type Kysely, sql } from 'kysely'
import type { Tables } from '../db/tables.ts'
import { visibilityHorizon } from '../db/visibility-horizon.ts'
import { idIn, type Job, jobColumns } from './job.ts'

/** Which changes {@link readChanges} reads. */
export interface ChangeQuery {
  /** Maps the id of each watched job to the last sequence that was delivered. */
  watched: ReadonlyMap<string, number>
  /** The job ids from notifications. The jobs may belong to any principal. */
  notified: readonly string[]
  /** The principals whose jobs are watched. Of the notified jobs, only the jobs of these principals are read. */
  principals: readonly string[]
  /** An earlier visibility horizon. If set, all jobs of `principals` that have changed since then are read too. */
  since?: Date | undefined
}

const columns = sql.join(jobColumns.map((name) => sql.ref(`job.${name}`)))

const selectWatched = (watched: ChangeQuery['watched']) => {
  const ids = [...watched.keys()]
  return sql`
    select ${columns}
    from unnest(${ids}::uuid[], ${ids.map((id) => watched.get(id))}::bigint[]) as watched (id, delivered_sequence)
    join accepted.job on job.id = watched.id and ${idIn(ids)}
    where job.sequence > watched.delivered_sequence`
}

const selectNotified = (notified: readonly string[], principals: readonly string[]) => sql`
  select ${columns} from accepted.job where ${idIn(notified)} and principal = any(${principals}::text[])`

const selectChangedSince = (principals: readonly string[], since: Date) => sql`
  select ${columns} from accepted.job
  where updated_at >= ${since}::timestamptz and principal = any(${principals}::text[])`

const selectVisibilityHorizon = sql`
  select ${visibilityHorizon(sql`interval '100 ms'`, sql`interval '1 minute'`)} as visibility_horizon`

/** The changed jobs. If the query has a `since`, also the current visibility horizon. */
export interface Changes {
  jobs: Job[]
  visibilityHorizon: Date | undefined
}

/** Reads the jobs that have changed, in one statement. The result may contain a job twice. */
export async function readChanges(db: Kysely<Tables>, query: ChangeQuery): Promise<Changes> {
  const { watched, notified, principals, since } = query
  const readsSince = since !== undefined && principals.length > 0
  const parts = [
    ...(watched.size > 0 ? [selectWatched(watched)] : []),
    ...(notified.length > 0 && principals.length > 0 ? [selectNotified(notified, principals)] : []),
    ...(readsSince ? [selectChangedSince(principals, since)] : []),
  ]
  if (parts.length === 0) return { jobs: [], visibilityHorizon: undefined }
  const changed = sql`${sql.join(parts, sql` union all `)}`
  if (!readsSince) return { jobs: (await sql<Job>`${changed}`.execute(db)).rows, visibilityHorizon: undefined }
  const { rows } = await sql<Job & { visibility_horizon: Date }>`
    select job.*, visibility_horizon
    from (${selectVisibilityHorizon}) as now left join (${changed}) as job on true`.execute(db)
  return { jobs: rows.filter(({ id }) => id !== null), visibilityHorizon: rows[0]?.visibility_horizon }
}

/**
 * Reads the jobs of a principal that have changed since a time, oldest change first. Returns undefined when more than
 * `limit` jobs have changed.
 */
export async function readChangesSince(
  db: Kysely<Tables>,
  { principal, since, limit }: { principal: string; since: Date; limit: number },
): Promise<Job[] | undefined> {
  const { rows } = await sql<Job>`
    ${selectChangedSince([principal], since)} order by updated_at, id limit ${limit + 1}`.execute(db)
  return rows.length > limit ? undefined : rows
}

/**
 * Reads the visibility horizon. Queries that start from now on see every change that was made before the horizon,
 * because all open transactions that have written began after the horizon. The horizon is never more than one minute in
 * the past. If a transaction stays open for longer, its early changes are found only through notifications.
 */
export async function readVisibilityHorizon(db: Kysely<Tables>): Promise<Date> {
  const { rows } = await sql<{ visibility_horizon: Date }>`${selectVisibilityHorizon}`.execute(db)
  return (rows as [{ visibility_horizon: Date }])[0].visibility_horizon
}
