import { type Kysely, type RawBuilder, sql } from 'kysely'
import type { Tables } from '../db/tables.ts'
import { type Job, jobColumns } from './job.ts'

/** What to look for: jobs that have changed. */
export interface Changes {
  /** Jobs that are watched, each with the sequence that is known of it. */
  watched: ReadonlyMap<string, number>
  /** Jobs that are said to have changed, whoever's they are. */
  hinted: readonly string[]
  /** Of these principals, hinted jobs are wanted. */
  principals: readonly string[]
  /** Of these principals also what changed within the last so many seconds, though nobody said so. */
  withinSeconds?: number | undefined
}

/** Of each principal so many of the newest jobs are looked at without a hint. */
export const newestLookedAt = 1_000

const columns = sql.join(jobColumns.map((name) => sql.ref(`job.${name}`)))

const byWatched = (watched: Changes['watched']) => {
  const ids = [...watched.keys()].sort()
  return sql`
    select ${columns}
    from unnest(${ids}::uuid[], ${ids.map((id) => watched.get(id))}::bigint[]) as watched (id, known)
    join accepted.job on job.id = watched.id and job.id between ${ids[0]} and ${ids.at(-1)}
    where job.sequence > watched.known`
}

const byHint = (hinted: readonly string[], principals: readonly string[]) => {
  const ids = hinted.toSorted()
  return sql`
    select ${columns} from accepted.job
    where id = any(${ids}::uuid[]) and id between ${ids[0]} and ${ids.at(-1)} and principal = any(${principals}::text[])`
}

// The index gives the newest ids of a principal; no index holds what changes.
const byPrincipal = (principals: readonly string[], since: RawBuilder<unknown>) => sql`
  select ${columns}
  from unnest(${principals}::text[]) as wanted (principal)
  cross join lateral (
    select * from accepted.job where job.principal = wanted.principal order by id desc limit ${newestLookedAt}
  ) as job
  where job.updated_at > ${since}`

/** Reads the jobs that have changed, in one query. The same job may be there twice. */
export async function readChanges(db: Kysely<Tables>, changes: Changes): Promise<Job[]> {
  const { watched, hinted, principals, withinSeconds } = changes
  const parts = [
    ...(watched.size > 0 ? [byWatched(watched)] : []),
    ...(hinted.length > 0 && principals.length > 0 ? [byHint(hinted, principals)] : []),
    ...(withinSeconds !== undefined && principals.length > 0
      ? [byPrincipal(principals, sql`now() - make_interval(secs => ${withinSeconds})`)]
      : []),
  ]
  if (parts.length === 0) return []
  const { rows } = await sql<Job>`${sql.join(parts, sql` union all `)}`.execute(db)
  return rows
}

/** What changed of a principal's newest jobs after an instant, in the order in which it changed. */
export async function readChangesSince(db: Kysely<Tables>, principal: string, since: Date): Promise<Job[]> {
  const { rows } = await sql<Job>`
    ${byPrincipal([principal], sql`${since}::timestamptz`)} order by job.updated_at, job.id`.execute(db)
  return rows
}
