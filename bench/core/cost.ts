import { cpuOf, cpuOfTree } from './proc.ts'
import { query, type Server } from './server.ts'

/** The resources that a measurement used in a database and in some processes. */
export interface Cost {
  walBytes: number
  /** Transactions that wrote something: the number of transaction ids that Postgres has assigned. */
  commits: number
  /** CPU seconds. */
  postgresCpu: number
  processCpu: number
  /** Updates of the status table, and how many of them were HOT: within their page and without an index change. */
  updates: number
  hotUpdates: number
  /** New dead rows in all tables. */
  dead: number
}

/** Starts counting. The returned function returns the cost since the start. */
export async function startCost(
  server: Server,
  database: string,
  pids: readonly number[],
): Promise<() => Promise<Cost>> {
  const read = async (): Promise<Cost> => {
    const [row] = await query<Record<'wal' | 'commits' | 'updates' | 'hot' | 'dead', string>>(
      server.urlOf(database),
      `select pg_current_wal_insert_lsn() - '0/0' as wal, pg_snapshot_xmax(pg_current_snapshot()) as commits,
        sum(n_tup_upd) filter (where is_status) as updates, sum(n_tup_hot_upd) filter (where is_status) as hot,
        sum(n_dead_tup) as dead
      from pg_stat_user_tables, lateral (
        select exists (select from pg_inherits where inhrelid = relid and inhparent = to_regclass('accepted.job')) as is_status
      ) as status`,
    )
    return {
      walBytes: Number(row?.wal),
      commits: Number(row?.commits),
      updates: Number(row?.updates),
      hotUpdates: Number(row?.hot),
      dead: Number(row?.dead),
      postgresCpu: cpuOfTree(server.pid),
      processCpu: pids.reduce((sum, pid) => sum + cpuOf(pid), 0),
    }
  }
  const before = await read()
  return async () => {
    const after = await read()
    const since = (name: keyof Cost) => after[name] - before[name]
    return {
      walBytes: since('walBytes'),
      commits: since('commits'),
      postgresCpu: since('postgresCpu'),
      processCpu: since('processCpu'),
      updates: since('updates'),
      hotUpdates: since('hotUpdates'),
      dead: since('dead'),
    }
  }
}

/** Returns the cost per request or job. CPU time is in microseconds. */
export const costPer = (cost: Cost, count: number) => ({
  walBytes: cost.walBytes / count,
  commits: cost.commits / count,
  postgresCpu: (cost.postgresCpu / count) * 1e6,
  processCpu: (cost.processCpu / count) * 1e6,
  dead: cost.dead / count,
  ...(cost.updates > 0 && { hot: (cost.hotUpdates / cost.updates) * 100 }),
})
