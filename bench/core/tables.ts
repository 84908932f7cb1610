import { query } from './server.ts'

/** SQL for the name of a table. All partitions of accepted.job get the name `job`. */
const tableName = `case when s.relname ~ '^job_[0-9]{8}$|^job_default$' and s.schemaname = 'accepted' then 'job' else s.relname end`

const isOurs = `s.schemaname = 'accepted' or s.schemaname = 'accepted_queue' and s.relname like 'job%'`

/** The table that holds the jobs of all our queues. */
export const queueTable = 'accepted_queue.job_common'

/** An index, summed over all partitions. */
export interface Index {
  /** With its schema. */
  table: string
  name: string
  scans: number
  bytes: number
  /** The comment of the index. Without a comment: `primary key`, `unique`, or an empty string. */
  purpose: string
}

/** Lists the indexes of the status tables and of the queue. Scans by open sessions may not be counted yet. */
export async function indexesOf(url: string): Promise<Index[]> {
  const rows = await query<{ table: string; name: string; scans: string; bytes: string; purpose: string }>(
    url,
    `select s.schemaname || '.' || ${tableName} as table, name, sum(s.idx_scan) as scans,
      sum(pg_relation_size(s.indexrelid)) as bytes,
      coalesce(
        max(obj_description(to_regclass(s.schemaname || '.' || name))),
        case when bool_or(i.indisprimary) then 'primary key' when bool_or(i.indisunique) then 'unique' else '' end
      ) as purpose
    from pg_stat_user_indexes s join pg_index i using (indexrelid),
      regexp_replace(s.indexrelname, '^job_([0-9]{8}|default)_', 'job_') as name
    where ${isOurs} group by 1, 2 order by 1, 2`,
  )
  return rows.map(({ scans, bytes, ...one }) => ({ ...one, scans: Number(scans), bytes: Number(bytes) }))
}

/** Statistics of a table, summed over all partitions. */
export interface TableStatistics {
  /** With its schema. */
  name: string
  /** Inserted minus deleted rows. */
  rows: number
  /** Dead rows that have not been removed yet (an estimate). */
  dead: number
  /** The percentage of HOT updates: within their page and without an index change. Undefined without any updates. */
  hot?: number
  heapBytes: number
  indexBytes: number
}

/** Lists our tables and the tables of the queue, the largest first. Skips tables into which no row was inserted. */
export async function tablesOf(url: string): Promise<TableStatistics[]> {
  const rows = await query<Record<Exclude<keyof TableStatistics, 'hot'>, string> & { hot: string | null }>(
    url,
    `select s.schemaname || '.' || ${tableName} as name,
      sum(s.n_tup_ins - s.n_tup_del) as rows, sum(s.n_dead_tup) as dead,
      100 * sum(s.n_tup_hot_upd) / nullif(sum(s.n_tup_upd), 0) as hot,
      sum(pg_table_size(s.relid)) as "heapBytes", sum(pg_indexes_size(s.relid)) as "indexBytes"
    from pg_stat_user_tables s where ${isOurs}
    group by 1 having sum(s.n_tup_ins) > 0 order by sum(pg_total_relation_size(s.relid)) desc`,
  )
  return rows.map(({ name, ...figures }) => {
    const { rows, dead, hot, heapBytes, indexBytes } = figures
    return {
      name,
      rows: Number(rows),
      dead: Number(dead),
      ...(hot !== null && { hot: Number(hot) }),
      heapBytes: Number(heapBytes),
      indexBytes: Number(indexBytes),
    }
  })
}
