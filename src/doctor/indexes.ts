import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { sql } from 'kysely'
import { errorCode, sqlstate } from '../db/sqlstate.ts'
import { ownDirectory } from '../migrate/files.ts'
import { formatCount, formatNumber } from '../primitives/format-count.ts'
import { queueSchema } from '../queue/schema.ts'
import type { Check, CheckContext, Finding } from './check.ts'
import { formatBytes } from './format.ts'

interface Index {
  index: string
  oid: string
  bytes: number
  /** The size that the rows of the index need. */
  needed: number
}

/** Indexes that are much larger than their rows, and indexes that nothing reads. */
export const indexes: readonly Check[] = [
  { name: 'bloated indexes', run: bloated },
  { name: 'unused indexes', run: unused },
]

/**
 * Estimates the size from the number of rows and the average width of the columns: an entry has 12 bytes besides its
 * columns, and half of each page may be free. Without access to the statistics, a column counts as 32 bytes.
 */
async function bloated(context: CheckContext): Promise<Finding[]> {
  const { query, limits } = context
  const rows = await query(sql<Index>`
    select * from (
      select format('%I.%I', n.nspname, c.relname) as index, c.oid::text as oid,
        pg_relation_size(c.oid)::float8 as bytes, 2 * c.reltuples::float8 * (12 + (
          select coalesce(sum(coalesce(stats.avg_width, nullif(a.attlen, -1), 32)), 32)
          from unnest(i.indkey::int2[]) as key
          left join pg_attribute a on a.attrelid = i.indrelid and a.attnum = key
          left join pg_stats stats on stats.schemaname = n.nspname and stats.tablename = counted.relname
            and stats.attname = a.attname
        )) as needed
      from pg_index i
      join pg_class c on c.oid = i.indexrelid and c.relkind = 'i'
      join pg_am on pg_am.oid = c.relam and pg_am.amname = 'btree'
      join pg_namespace n on n.oid = c.relnamespace
      join pg_stat_all_tables counted on counted.relid = i.indrelid
      -- Until the table is analyzed, the number of rows is out of date.
      where n.nspname in ('accepted', ${queueSchema}) and i.indisvalid and c.reltuples >= 0
        and coalesce(counted.last_analyze, counted.last_autoanalyze) is not null
        and counted.n_mod_since_analyze <= 50000 + counted.n_live_tup / 5
    ) estimate
    where bytes >= ${limits.indexBytes} and bytes >= needed * ${limits.bloatFactor}
    order by bytes desc limit ${limits.findings}`)
  const confirmed: Finding[] = []
  for (const row of rows) {
    const filled = await measureFill(context, row)
    if (filled !== undefined && filled * limits.bloatFactor > 1) continue
    confirmed.push({
      code: 'index-bloated',
      severity: 'warning',
      message: `The index ${row.index} has ${formatBytes(row.bytes)}, but its entries need ${
        filled === undefined ? `about ${formatBytes(row.needed)}` : `${formatNumber(100 * filled)} % of that`
      }.`,
      action: `reindex index concurrently ${row.index}`,
      details: {
        index: row.index,
        bytes: row.bytes,
        neededBytes: filled === undefined ? row.needed : filled * row.bytes,
      },
    })
  }
  return confirmed
}

/** Returns the share of an index that holds entries, if pgstattuple is installed and the role may use it. */
async function measureFill({ query }: CheckContext, { oid, bytes }: Index): Promise<number | undefined> {
  const [extension] = await query(sql<{ schema: string }>`
    select nspname::text as schema from pg_extension join pg_namespace n on n.oid = extnamespace
    where extname = 'pgstattuple'`)
  if (!extension) return undefined
  const [row] = await query(sql<{ filled: number }>`
    select (leaf_pages * avg_leaf_density / 100 * current_setting('block_size')::int)::float8 as filled
    from ${sql.id(extension.schema, 'pgstatindex')}(${oid}::oid::regclass)`).catch((error) => {
    const code = errorCode(error)
    if (code === sqlstate.insufficientPrivilege || code === sqlstate.queryCanceled) return []
    throw error
  })
  return row && Number.isFinite(row.filled) ? row.filled / bytes : undefined
}

const indexDefinition = /^create (?:unique )?index (\w+)/gm

/** An index that was added by hand makes each change of a job slower. Those of Accepted and pg-boss stay. */
async function unused({ query, limits }: CheckContext): Promise<Finding[]> {
  const schemaFile = await readFile(join(ownDirectory, 'schema.sql'), 'utf8')
  const ours = Array.from(schemaFile.matchAll(indexDefinition), ([, name]) => name as string)
  const rows = await query(sql<{ index: string; bytes: number; days: number; partitions: number }>`
    select format('%I.%I', n.nspname, root.relname) as index, sum(pg_relation_size(c.oid))::float8 as bytes,
      count(*)::int as partitions,
      extract(epoch from now() - min(coalesce(db.stats_reset, pg_postmaster_start_time())))::float8 / 86400 as days
    from pg_index i
    join pg_class c on c.oid = i.indexrelid and c.relkind = 'i'
    join pg_class root on root.oid = coalesce(pg_partition_root(c.oid), c.oid)
    join pg_namespace n on n.oid = root.relnamespace
    join pg_stat_all_indexes stats on stats.indexrelid = c.oid
    join pg_stat_database db on db.datname = current_database()
    where n.nspname in ('accepted', ${queueSchema}) and not i.indisunique and root.relname <> all(${ours})
      -- The names that pg-boss gives to its indexes.
      and not (n.nspname = ${queueSchema} and root.relname ~ '^[a-z_]+_i[0-9]+$')
    group by n.nspname, root.relname
    having sum(stats.idx_scan) = 0 and sum(pg_relation_size(c.oid)) >= ${limits.indexBytes}
      and min(coalesce(db.stats_reset, pg_postmaster_start_time())) <= now() - make_interval(days => ${limits.unusedIndexDays})
    order by bytes desc limit ${limits.findings}`)
  return rows.map(({ index, bytes, days }) => ({
    code: 'index-unused',
    severity: 'warning',
    message: `The index ${index} has ${formatBytes(bytes)}, is not part of Accepted, and nothing has read it in ${formatCount(Math.floor(days), 'day')}. It makes each change slower.`,
    action: `drop index ${index}`,
    details: { index, bytes, days },
  }))
}
