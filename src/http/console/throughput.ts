import { type RawBuilder, sql, type Transaction } from 'kysely'
import type { Tables } from '../../db/tables.ts'

/** `hour`: each minute of the last hour. `week`: each hour of the last seven days. */
export type Range = 'hour' | 'week'

/** What has ended in a minute or an hour, of one operation or of all. */
export interface Throughput {
  /** Null: in the whole range. */
  at: Date | null
  /** Null: of all operations. */
  operation: string | null
  succeeded: number
  failed: number
  canceled: number
  wait_p50: number | null
  wait_p99: number | null
  run_p50: number | null
  run_p99: number | null
}

export interface ThroughputOfRange {
  /** By operation, in the whole range. */
  operations: Throughput[]
  /** By time, of the operation or of all. */
  times: Throughput[]
}

const maxJobs = 100_000

const counts = sql`
  count(*) filter (where status = 'succeeded')::float8 as succeeded,
  count(*) filter (where status = 'failed')::float8 as failed,
  count(*) filter (where status = 'canceled')::float8 as canceled`

const percentiles = sql`
  percentile_cont(0.5) within group (order by wait_seconds) as wait_p50,
  percentile_cont(0.99) within group (order by wait_seconds) as wait_p99,
  percentile_cont(0.5) within group (order by run_seconds) as run_p50,
  percentile_cont(0.99) within group (order by run_seconds) as run_p99`

/** One scan: the groups of the times only of the operation, if one is asked for. */
const ofHour = (operation: string | null): RawBuilder<Throughput> => sql`
  with ended as materialized (
    select date_trunc('minute', ended_at) as at, * from accepted.ended_jobs(${maxJobs}::integer)
  )
  select null::timestamptz as at, operation, ${counts}, ${percentiles} from ended group by operation
  union all
  select at, null, ${counts}, ${percentiles} from ended
  where ${operation}::text is null or operation = ${operation}::text group by at`

/** The percentiles of a longer time are those of its hours: of the medians the median, of the others the maximum. */
const overHours = sql`
  sum(succeeded)::float8 as succeeded, sum(failed)::float8 as failed, sum(canceled)::float8 as canceled,
  percentile_cont(0.5) within group (order by wait_p50) as wait_p50, max(wait_p99) as wait_p99,
  percentile_cont(0.5) within group (order by run_p50) as run_p50, max(run_p99) as run_p99`

const ofWeek = (operation: string | null): RawBuilder<Throughput> => sql`
  with recorded as materialized (
    select * from accepted.throughput_hour where hour >= date_trunc('hour', now()) - interval '7 days'
  )
  select null::timestamptz as at, operation, ${overHours} from recorded group by operation
    having sum(succeeded + failed + canceled) > 0
  union all
  select hour, null, ${overHours} from recorded
  where ${operation}::text is null or operation = ${operation}::text group by hour`

/** Reads what has ended in the range. */
export async function readThroughput(
  trx: Transaction<Tables>,
  range: Range,
  operation: string | undefined,
): Promise<ThroughputOfRange> {
  const query = range === 'hour' ? ofHour : ofWeek
  const { rows } = await query(operation ?? null).execute(trx)
  const times = rows.filter(({ at }) => at !== null)
  return {
    operations: rows
      .filter(({ at }) => at === null)
      .toSorted((a, b) => ((a.operation ?? '') < (b.operation ?? '') ? -1 : 1)),
    times: withGaps(times as (Throughput & { at: Date })[], range),
  }
}

const steps = { hour: { ms: 60_000, count: 60 }, week: { ms: 3_600_000, count: 7 * 24 } } as const

/** Adds the times at which nothing has ended. The last one is the minute that is not over, or the last full hour. */
function withGaps(rows: readonly (Throughput & { at: Date })[], range: Range): Throughput[] {
  const { ms, count } = steps[range]
  const byTime = new Map(rows.map((row) => [row.at.getTime(), row]))
  const last = Math.floor(Date.now() / ms) * ms - (range === 'hour' ? 0 : ms)
  return Array.from({ length: count }, (_, index) => {
    const at = last - (count - 1 - index) * ms
    const nothing = { wait_p50: null, wait_p99: null, run_p50: null, run_p99: null }
    return byTime.get(at) ?? { at: new Date(at), operation: null, succeeded: 0, failed: 0, canceled: 0, ...nothing }
  })
}
