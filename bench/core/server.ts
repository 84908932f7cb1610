import { readFileSync } from 'node:fs'
import pg from 'pg'
import { startEmbeddedPostgres } from '../../src/db/embedded.ts'
import { migrate } from '../../src/db/migrate.ts'

/** The cluster that all contenders share. */
export interface Server {
  pid: number
  /** Its lines begin with the database and the application. */
  logFile: string
  urlOf(database: string): string
  /** An empty database. */
  createDatabase(name: string): Promise<string>
  /** One with our schema, and that of the app of the bench. */
  createOurs(name: string): Promise<string>
  dropDatabase(name: string): Promise<void>
  /** What promises that a commit survives, as the server says. */
  durability(): Promise<Record<string, string>>
  stop(): Promise<void>
}

/**
 * Starts Postgres as it comes, with `fsync` on, room for the connections of all, and room for the WAL: else it makes a
 * checkpoint each minute, and most of what is written are whole pages after each.
 *
 * @param dataDir one that the user postgres can enter
 */
export async function startServer(dataDir: string, appMigrations: string): Promise<Server> {
  const running = await startEmbeddedPostgres({
    dataDir,
    database: 'bench',
    settings: { fsync: 'on', max_connections: '300', max_wal_size: '8GB', log_line_prefix: '%d|%a|' },
  })
  const urlOf = (database: string) => {
    const url = new URL(running.url)
    url.pathname = `/${database}`
    return url.href
  }
  const create = async (name: string, template = 'template1') => {
    await query(urlOf('postgres'), `drop database if exists ${name} with (force)`)
    await query(urlOf('postgres'), `create database ${name} template ${template}`)
    return urlOf(name)
  }
  let migrated: Promise<void> | undefined
  const migrateTemplate = async () => migrate({ url: await create('migrated'), appMigrations })
  return {
    pid: running.pid,
    logFile: running.logFile,
    urlOf,
    createDatabase: (name) => create(name),
    async createOurs(name) {
      migrated ??= migrateTemplate()
      await migrated
      return create(name, 'migrated')
    },
    dropDatabase: async (name) => void (await query(urlOf('postgres'), `drop database ${name} with (force)`)),
    async durability() {
      const names = ['fsync', 'synchronous_commit', 'full_page_writes', 'wal_level', 'max_wal_size', 'server_version']
      const rows = await query<{ name: string; setting: string }>(
        urlOf('postgres'),
        'select name, current_setting(name) as setting from unnest($1::text[]) as wanted (name)',
        [names],
      )
      return Object.fromEntries(rows.map(({ name, setting }) => [name, setting]))
    },
    stop: () => running.stop('fast'),
  }
}

/** Runs one statement over a connection of its own and answers the rows. */
export async function query<Row extends pg.QueryResultRow>(
  url: string,
  text: string,
  values: unknown[] = [],
): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return (await client.query<Row>(text, values)).rows
  } finally {
    await client.end()
  }
}

/** What the server has written and committed, and what processes have computed, since some time. */
export interface Cost {
  walBytes: number
  /** Transactions that wrote, by their ids. */
  commits: number
  /** In seconds. */
  postgresCpu: number
  processCpu: number
  /** Rows of the status table that were updated, and those of them within their page and without an index (HOT). */
  updates: number
  hotUpdates: number
  /** Dead rows that there are more, of all tables. */
  dead: number
}

/** Begins to count what happens in a database and in processes; the answer is what has happened until it is called. */
export async function startCost(
  server: Server,
  database: string,
  pids: readonly number[],
): Promise<() => Promise<Cost>> {
  const look = async (): Promise<Cost> => {
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
      postgresCpu: cpuOfFamily(server.pid),
      processCpu: pids.reduce((sum, pid) => sum + cpuOf(pid), 0),
    }
  }
  const before = await look()
  return async () => {
    const after = await look()
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

/** Of each of so many requests or jobs, the processors' part in microseconds. */
export const costPer = (cost: Cost, count: number) => ({
  walBytes: cost.walBytes / count,
  commits: cost.commits / count,
  postgresCpu: (cost.postgresCpu / count) * 1e6,
  processCpu: (cost.processCpu / count) * 1e6,
  dead: cost.dead / count,
  ...(cost.updates > 0 && { hot: (cost.hotUpdates / cost.updates) * 100 }),
})

/** Clock ticks a second (sysconf(_SC_CLK_TCK)), which on Linux is 100 everywhere. */
const ticks = 100

// proc(5): after the name, which may hold anything, come state, ppid, …; utime, stime, cutime and cstime are 14 to 17.
function statOf(pid: number | string): string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return text.slice(text.lastIndexOf(')') + 2).split(' ')
  } catch {
    // It has ended.
    return undefined
  }
}

/** What a process has computed so far, in seconds. */
export function cpuOf(pid: number): number {
  const stat = statOf(pid)
  return stat ? (Number(stat[11]) + Number(stat[12])) / ticks : 0
}

/**
 * What the main thread of a process has computed so far, and how long it has waited for a processor that another had, in
 * seconds (/proc/…/schedstat, Documentation/scheduler/sched-stats.rst of Linux).
 */
export function threadOf(pid: number): { computed: number; waited: number } {
  const nanoseconds = readFileSync(`/proc/${pid}/task/${pid}/schedstat`, 'utf8').split(' ').map(Number)
  const [computed, waited] = nanoseconds as [number, number]
  return { computed: computed / 1e9, waited: waited / 1e9 }
}

/** What a process and its children have, also those that have ended. */
function cpuOfFamily(pid: number): number {
  const own = statOf(pid)
  const ended = own ? (Number(own[13]) + Number(own[14])) / ticks : 0
  return childrenOf(pid).reduce((sum, child) => sum + cpuOf(child), cpuOf(pid) + ended)
}

/** What a process has in memory, in bytes (its resident set, proc(5)). */
export function memoryOf(pid: number): number {
  const [, kilobytes] = readFileSync(`/proc/${pid}/status`, 'utf8').match(/^VmRSS:\s+(\d+) kB$/m) ?? []
  if (kilobytes === undefined) throw new Error(`Nobody knows what process ${pid} has in memory`)
  return Number(kilobytes) * 1024
}

function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number)
  } catch {
    return []
  }
}
