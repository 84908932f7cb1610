import { type RawBuilder, type Selectable, sql } from 'kysely'
import type { JobTable } from '../db/tables.ts'
import { parseTimestamp } from '../db/timestamp.ts'

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
  'coalesced',
  'cancel_requested',
  'retry_of',
  'parent',
  'children',
  'waiting_for',
  'created_at',
  'started_at',
  'updated_at',
  'ended_at',
  'expires_at',
  'attempt_started_at',
  'progress_at',
  'progress_base',
] as const satisfies readonly (keyof JobTable)[]

/** Maximum size of a result, or of an error with its details, that is read with a job, in bytes of JSON. */
export const maxSharedBytes = 16 * 1024

/** A value that takes at most this many bytes in the table is small, even if Postgres has compressed it. */
const maxTinyBytes = 180
/** A value that takes more bytes in the table has more than {@link maxSharedBytes}. */
const minLargeBytes = 64 * 1024

/** Decides by the size in the table where it can: measuring the text of a value costs as much as reading it. */
const isSmall = (column: 'result' | 'error') => {
  const value = sql.ref(`job.${column}`)
  return sql`case when pg_column_size(${value}) <= ${sql.lit(maxTinyBytes)} then true
    when pg_column_size(${value}) > ${sql.lit(minLargeBytes)} then false
    else octet_length(${value}::text) <= ${sql.lit(maxSharedBytes)} end`
}

/**
 * The columns of {@link jobColumns} without a large result and without large details of an error. Together, such values
 * could exhaust the memory, and each takes milliseconds to parse. Pass the rows to {@link markCut}.
 */
export const sharedColumns = sql.join([
  ...jobColumns.map((name) => {
    if (name === 'result') return sql`case when ${isSmall('result')} then job.result end as result`
    if (name === 'error')
      return sql`case when ${isSmall('error')} then job.error else job.error - 'details' end as error`
    return sql.ref(`job.${name}`)
  }),
  sql`pg_column_size(job.result) > ${sql.lit(maxTinyBytes)} as may_lack_result`,
  sql`pg_column_size(job.error) > ${sql.lit(maxTinyBytes)} as may_lack_details`,
])

/** A row with {@link sharedColumns}. */
export type SharedRow = Job & { may_lack_result: boolean | null; may_lack_details: boolean | null }

/** For a job that waits for its retry: when it may start, and why the last attempt failed. No lookup for other jobs. */
export const retryColumns = sql`
  case when job.status = 'queued' and job.attempt > 0 then accepted.next_attempt_at(job.operation, job.id) end
    as next_attempt_at,
  case when job.status = 'queued' and job.attempt > 0 then accepted.last_error(job.id) end as last_error`

/** Sets `is_cut` of a row with {@link sharedColumns}. */
export function markCut<Row extends SharedRow>(row: Row): Omit<Row, 'may_lack_result' | 'may_lack_details'> & Job {
  const { may_lack_result: mayLackResult, may_lack_details: mayLackDetails, ...job } = row
  const lacksResult = mayLackResult === true && job.result === null
  const lacksDetails = mayLackDetails === true && !(job.error?.details ?? job.error?.child)
  return { ...job, is_cut: lacksResult || lacksDetails }
}

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
  for (const name of dateColumns) if (row[name] !== null) row[name] = parseTimestamp(row[name])
  return { ...row, sequence: String(row.sequence) }
}

/** A row of `accepted.job` with {@link jobColumns}. */
export type Job = Pick<Selectable<JobTable>, (typeof jobColumns)[number]> & {
  /** Whether a large result or large details of the error were left out. See {@link markCut}. */
  is_cut?: boolean
  /**
   * When the next attempt may start at the earliest. Known of a job that was read alone while it is queued, and of a
   * change to a job that waits for its retry.
   */
  next_attempt_at?: Date | null | undefined
  /** Why the last attempt failed, without details. Known of the same jobs. */
  last_error?: JobTable['error'] | undefined
}

/**
 * Builds a SQL condition: `job.id` is one of these ids. The condition also contains the smallest and the greatest id.
 * These bounds let Postgres skip the partitions of other days. No plan reads rows outside the bounds, not even a
 * generic plan for a join.
 */
export const idIn = (ids: readonly string[]): RawBuilder<boolean> => {
  const sorted = ids.toSorted()
  return sql`job.id = any(${sorted}::uuid[]) and job.id between ${sorted[0]} and ${sorted.at(-1)}`
}
