import { sql } from 'kysely'
import { apiPoolSize, controlPoolSize, listenerConnections, workerPoolSize } from '../db/pool-sizes.ts'
import type { Check, CheckContext, Finding } from './check.ts'
import { findingsOf } from './check.ts'

interface Use {
  application: string
  connections: number
}

interface Capacity {
  max: number
  /** Connections that only superusers and members of pg_use_reserved_connections get. */
  reserved: number
  used: number
  role_limit: number | null
  database_limit: number | null
}

/** The name of a process: `accepted worker host:123`. Its connections may add a word. */
const processName = /^accepted (api|worker) \S+:\d+/

/** The connections that all processes may open, and those that the server has. */
export const connections: Check = {
  name: 'connections',
  async run(context) {
    const { query, limits, note } = context
    const [capacity] = await query(readCapacity)
    const use = await query(readUse)
    if (!capacity) return []
    const available = capacity.max - capacity.reserved
    const list = use.map(({ application, connections }) => `${application || '(no name)'} ${connections}`)
    note(`${capacity.used} of ${available} in use: ${list.join(', ')}`)
    return [
      ...findingsOf(
        capacity.used >= available * limits.connectionShare && {
          code: 'connections-used-up',
          severity: 'error',
          message: `${capacity.used} of ${available} connections are in use: ${list.join(', ')}.`,
          action: 'Close connections, set POOL_SIZE to less, raise max_connections, or use a pooler.',
          details: { used: capacity.used, available, byApplication: use },
        },
      ),
      ...judgeBudget(capacity, use, context),
    ]
  },
}

const readCapacity = sql<Capacity>`
  select current_setting('max_connections')::int as max,
    current_setting('superuser_reserved_connections')::int
      + coalesce(current_setting('reserved_connections', true)::int, 0) as reserved,
    (select count(*)::int from pg_stat_activity where datid is not null) as used,
    nullif(role.rolconnlimit, -1) as role_limit,
    nullif(db.datconnlimit, -1) as database_limit
  from pg_database db join pg_roles role on role.rolname = current_user
  where db.datname = current_database()`

const readUse = sql<Use>`
  select coalesce(application_name, '') as application, count(*)::int as connections from pg_stat_activity
  where datid is not null group by 1 order by 2 desc, 1`

/** How many connections a process may open, by its kind. */
const budgetOf = (poolSize: number | undefined) => ({
  api: (poolSize ?? apiPoolSize) + listenerConnections,
  worker: (poolSize ?? workerPoolSize) + controlPoolSize + listenerConnections,
})

const processes = (count: number, kind: string) => `${count} ${kind} ${count === 1 ? 'process' : 'processes'}`

/** Behind a pooler, the size of its pools decides, which is not known here. */
function judgeBudget(capacity: Capacity, use: readonly Use[], { poolSize, isPooled }: CheckContext): Finding[] {
  if (isPooled) return []
  const budget = budgetOf(poolSize)
  const names = new Set(use.flatMap(({ application }) => processName.exec(application)?.[0] ?? []))
  const count = (kind: 'api' | 'worker') =>
    Math.max(1, [...names].filter((name) => name.startsWith(`accepted ${kind} `)).length)
  const [apis, workers] = [count('api'), count('worker')]
  const wanted = apis * budget.api + workers * budget.worker
  const ours = use.filter(({ application }) => processName.test(application))
  const oursUsed = ours.reduce((sum, { connections }) => sum + connections, 0)
  const limits = [
    { name: 'the server', room: capacity.max - capacity.reserved - (capacity.used - oursUsed) },
    { name: 'the role', room: capacity.role_limit },
    { name: 'the database', room: capacity.database_limit },
  ].filter((limit): limit is { name: string; room: number } => limit.room !== null)
  const narrow = limits.find(({ room }) => wanted > room)
  if (!narrow) return []
  const fixed = apis * listenerConnections + workers * (controlPoolSize + listenerConnections)
  const fitting = Math.floor((narrow.room - fixed) / (apis + workers))
  return [
    {
      code: 'connection-budget',
      severity: 'warning',
      message:
        `${processes(apis, 'API')} may open ${apis * budget.api} connections, and ` +
        `${processes(workers, 'worker')} ${workers * budget.worker}, but ${narrow.name} has room for ${narrow.room}.`,
      action: `${fitting >= 2 ? `Set POOL_SIZE=${fitting}, r` : 'R'}aise max_connections or the limit, or use a pooler.`,
      details: {
        wanted,
        room: narrow.room,
        apis,
        workers,
        perApi: budget.api,
        perWorker: budget.worker,
        byApplication: use,
      },
    },
  ]
}
