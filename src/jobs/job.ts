import { type RawBuilder, type Selectable, sql } from 'kysely'
import type { JobTable } from '../db/tables.ts'

/** The columns of `accepted.job` from which status documents, lists, events and webhooks are made. */
export const jobColumns = [
  'id',
  'operation',
  'status',
  'principal',
  'resource',
  'percent',
  'message',
  'attempt',
  'max_attempts',
  'sequence',
  'result',
  'error',
  'cancel_requested',
  'retry_of',
  'created_at',
  'started_at',
  'updated_at',
  'ended_at',
  'expires_at',
  'attempt_started_at',
  'progress_at',
] as const satisfies readonly (keyof JobTable)[]

/** Maximum size of a result that is sent with many other jobs, in bytes of JSON. */
export const maxSharedResultBytes = 16 * 1024

/**
 * The columns of {@link jobColumns} for a statement that reads many jobs at once. A large result is left out, because
 * together such results could exhaust the memory.
 */
export const sharedColumns = sql.join(
  jobColumns.map((name) =>
    name === 'result'
      ? sql`case when octet_length(job.result::text) <= ${sql.lit(maxSharedResultBytes)} then job.result end as result`
      : sql.ref(`job.${name}`),
  ),
)

/** The columns of {@link jobColumns} that are dates. */
const dateColumns = [
  ...(['created_at', 'started_at', 'updated_at', 'ended_at', 'expires_at'] as const),
  ...(['attempt_started_at', 'progress_at'] as const),
]

/**
 * A column with the {@link Job} as JSON, for the `returning` of a statement on `accepted.job`. It also works in a
 * transaction of the app, whose settings and type parsers may show dates and numbers differently.
 */
export const jobAsJson = sql<string>`(
  select to_json(made) from (select ${sql.join(jobColumns.map((name) => sql.ref(name)))}) as made
)::text`

/** Reads the value of {@link jobAsJson}. */
export function jobFromJson(text: string): Job {
  const row = JSON.parse(text)
  for (const name of dateColumns) if (row[name] !== null) row[name] = new Date(row[name])
  return { ...row, sequence: String(row.sequence) }
}

/** A row of `accepted.job` with {@link jobColumns}. */
export type Job = Pick<Selectable<JobTable>, (typeof jobColumns)[number]>

/**
 * Builds a SQL condition: `job.id` is one of these ids. The condition also contains the smallest and the greatest id.
 * These bounds let Postgres skip the partitions of other days. No plan reads rows outside the bounds, not even a
 * generic plan for a join.
 */
export const idIn = (ids: readonly string[]): RawBuilder<boolean> => {
  const sorted = ids.toSorted()
  return sql`job.id = any(${sorted}::uuid[]) and job.id between ${sorted[0]} and ${sorted.at(-1)}`
}
