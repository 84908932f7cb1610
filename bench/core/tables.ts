import { query } from './server.ts'

/** What partitions are shown as: one table. */
const family = `case when s.relname ~ '^job_[0-9]{8}$|^job_default$' and s.schemaname = 'accepted' then 'job' else s.relname end`

const ours = `s.schemaname = 'accepted' or s.schemaname = 'pgboss' and s.relname like 'job%'`

/** An index, over all partitions, and how often it was used. */
export interface Index {
  /** With its schema. */
  table: string
  name: string
  scans: number
  bytes: number
  /** What it is for, as far as that is said: of ours it is. */
  purpose: string
}

/** The indexes of the status tables and of the queue. Sessions that have ended have told what they did. */
export async function indexesOf(url: string): Promise<Index[]> {
  const rows = await query<{ table: string; name: string; scans: string; bytes: string; purpose: string }>(
    url,
    `select s.schemaname || '.' || ${family} as table, name, sum(s.idx_scan) as scans,
      sum(pg_relation_size(s.indexrelid)) as bytes,
      coalesce(
        max(obj_description(to_regclass(s.schemaname || '.' || name))),
        case when bool_or(i.indisprimary) then 'primary key' when bool_or(i.indisunique) then 'unique' else '' end
      ) as purpose
    from pg_stat_user_indexes s join pg_index i using (indexrelid),
      regexp_replace(s.indexrelname, '^job_([0-9]{8}|default)_', 'job_') as name
    where ${ours} group by 1, 2 order by 1, 2`,
  )
  return rows.map(({ scans, bytes, ...one }) => ({ ...one, scans: Number(scans), bytes: Number(bytes) }))
}

/** A table, over all partitions. */
export interface TableState {
  /** With its schema. */
  name: string
  /** Inserted and not deleted, per the statistics. */
  rows: number
  /** Dead, and not yet removed, as the statistics estimate it. */
  dead: number
  /** Of the updates, those within their page and without an index (HOT), in percent; none without an update. */
  hot?: number
  heapBytes: number
  indexBytes: number
}

/** The tables of ours and of the queue that hold something, the largest first. */
export async function tablesOf(url: string): Promise<TableState[]> {
  const rows = await query<Record<Exclude<keyof TableState, 'hot'>, string> & { hot: string | null }>(
    url,
    `select s.schemaname || '.' || ${family} as name,
      sum(s.n_tup_ins - s.n_tup_del) as rows, sum(s.n_dead_tup) as dead,
      100 * sum(s.n_tup_hot_upd) / nullif(sum(s.n_tup_upd), 0) as hot,
      sum(pg_table_size(s.relid)) as "heapBytes", sum(pg_indexes_size(s.relid)) as "indexBytes"
    from pg_stat_user_tables s where ${ours}
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
