import { type Kysely, sql } from 'kysely'
import type { Tables } from '../db/tables.ts'
import { oldestTransaction } from '../db/transaction.ts'
import { among, type Job, jobColumns } from './job.ts'

/** What to look for: jobs that have changed. */
export interface Changes {
  /** Jobs that are watched, each with the sequence that is known of it. */
  watched: ReadonlyMap<string, number>
  /** Jobs that are said to have changed, whoever's they are. */
  hinted: readonly string[]
  /** Of these principals, hinted jobs are wanted. */
  principals: readonly string[]
  /** Of these principals also what has changed since then, the horizon of an earlier look, though nobody said so. */
  since?: Date | undefined
}

const columns = sql.join(jobColumns.map((name) => sql.ref(`job.${name}`)))

const byWatched = (watched: Changes['watched']) => {
  const ids = [...watched.keys()]
  return sql`
    select ${columns}
    from unnest(${ids}::uuid[], ${ids.map((id) => watched.get(id))}::bigint[]) as watched (id, known)
    join accepted.job on job.id = watched.id and ${among(ids)}
    where job.sequence > watched.known`
}

const byHint = (hinted: readonly string[], principals: readonly string[]) => sql`
  select ${columns} from accepted.job where ${among(hinted)} and principal = any(${principals}::text[])`

const byPrincipal = (principals: readonly string[], since: Date) => sql`
  select ${columns} from accepted.job
  where updated_at >= ${since}::timestamptz and principal = any(${principals}::text[])`

const horizonNow = sql`
  select ${oldestTransaction(sql`interval '100 ms'`, sql`interval '1 minute'`)} as horizon`

/** What was found, and of a look at principals the horizon as it is after it; see {@link readHorizon}. */
export interface Changed {
  jobs: Job[]
  horizon: Date | undefined
}

/** Reads the jobs that have changed, in one query. The same job may be there twice. */
export async function readChanges(db: Kysely<Tables>, changes: Changes): Promise<Changed> {
  const { watched, hinted, principals, since } = changes
  const isLook = since !== undefined && principals.length > 0
  const parts = [
    ...(watched.size > 0 ? [byWatched(watched)] : []),
    ...(hinted.length > 0 && principals.length > 0 ? [byHint(hinted, principals)] : []),
    ...(isLook ? [byPrincipal(principals, since)] : []),
  ]
  if (parts.length === 0) return { jobs: [], horizon: undefined }
  const found = sql`${sql.join(parts, sql` union all `)}`
  if (!isLook) return { jobs: (await sql<Job>`${found}`.execute(db)).rows, horizon: undefined }
  const { rows } = await sql<Job & { horizon: Date }>`
    select job.*, horizon from (${horizonNow}) as now left join (${found}) as job on true`.execute(db)
  return { jobs: rows.filter(({ id }) => id !== null), horizon: rows[0]?.horizon }
}

/** What has changed of a principal's jobs since a horizon, in that order; undefined when it is more than the limit. */
export async function readChangesSince(
  db: Kysely<Tables>,
  { principal, since, limit }: { principal: string; since: Date; limit: number },
): Promise<Job[] | undefined> {
  const { rows } = await sql<Job>`
    ${byPrincipal([principal], since)} order by updated_at, id limit ${limit + 1}`.execute(db)
  return rows.length > limit ? undefined : rows
}

/**
 * The instant before which all changes can be read by every query that begins from now on: whatever transaction has
 * written and is still under way, has begun after it. Of one that takes longer than a minute, what it changed before
 * then is found by a hint only.
 */
export async function readHorizon(db: Kysely<Tables>): Promise<Date> {
  const { rows } = await sql<{ horizon: Date }>`${horizonNow}`.execute(db)
  return (rows as [{ horizon: Date }])[0].horizon
}
