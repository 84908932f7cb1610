import { sql } from 'kysely'
import { formatCount } from '../primitives/format-count.ts'
import type { Check, CheckContext, Finding } from './check.ts'
import { formatSeconds, literal } from './format.ts'

interface Session {
  pid: number
  user: string
  application: string
  state: string | null
  seconds: number
  /** How many transactions have begun since, whose dead rows vacuum must keep. */
  held: number | null
}

interface Prepared {
  gid: string
  owner: string
  seconds: number
  held: number
}

/** Whether a problem that lasts for so long is an error. */
const severityOf = (seconds: number, { limits }: CheckContext): Finding['severity'] =>
  seconds >= limits.longSeconds ? 'error' : 'warning'

/** What keeps dead rows from being removed, or locks from being released: open and prepared transactions. */
export const transactions: readonly Check[] = [
  { name: 'open transactions', run: openTransactions },
  { name: 'prepared transactions', run: preparedTransactions },
  { name: 'transaction ids', run: wraparound },
]

async function openTransactions(context: CheckContext): Promise<Finding[]> {
  const { query, limits, hide, note } = context
  // The horizon of our tables does not depend on sessions of other databases, nor on a VACUUM.
  const sessions = sql`pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`
  const [hidden] = await query(sql<{ count: number }>`
    select count(*)::int as count from ${sessions} and query = '<insufficient privilege>'`)
  if (hidden && hidden.count > 0) hide('the transactions of other roles')
  const rows = await query(sql<Session>`
    select pid, coalesce(usename::text, '') as user, application_name as application, state,
      extract(epoch from clock_timestamp() - xact_start)::float8 as seconds,
      greatest(age(backend_xid), age(backend_xmin)) as held
    from ${sessions} and backend_type = 'client backend'
      and xact_start <= clock_timestamp() - make_interval(secs => ${limits.transactionSeconds})
      and not exists (select from pg_stat_progress_vacuum vacuum where vacuum.pid = pg_stat_activity.pid)
    order by xact_start limit ${limits.findings}`)
  const [oldest] = await query(sql<{ held: number | null }>`select max(age(backend_xmin)) as held from ${sessions}`)
  note(`the oldest snapshot is ${formatCount(oldest?.held ?? 0, 'transaction')} old`)
  return rows.map(({ pid, user, application, state, seconds, held }) => {
    const isIdle = state?.startsWith('idle in transaction') ?? false
    return {
      code: isIdle ? 'idle-in-transaction' : 'long-transaction',
      severity: severityOf(seconds, context),
      message:
        `A transaction of ${application || 'a program without application_name'} (role ${user}, pid ${pid}) has been open for ` +
        `${formatSeconds(seconds)}${isIdle ? ' and is idle' : ''}. It keeps its locks` +
        `${held === null ? '' : `, and vacuum must keep the dead rows of ${formatCount(held, 'transaction')}`}.`,
      action: `Let the program end its transaction, or: select pg_terminate_backend(${pid})`,
      details: { pid, role: user, application, state, seconds, heldTransactions: held },
    }
  })
}

async function preparedTransactions(context: CheckContext): Promise<Finding[]> {
  const { query, limits } = context
  const rows = await query(sql<Prepared>`
    select gid, owner::text as owner, extract(epoch from clock_timestamp() - prepared)::float8 as seconds,
      age(transaction) as held
    from pg_prepared_xacts
    where database = current_database()
      and prepared <= clock_timestamp() - make_interval(secs => ${limits.transactionSeconds})
    order by prepared limit ${limits.findings}`)
  return rows.map(({ gid, owner, seconds, held }) => ({
    code: 'prepared-transaction',
    severity: severityOf(seconds, context),
    message: `The prepared transaction ${gid} of the role ${owner} has waited for ${formatSeconds(seconds)}. It keeps its locks, and vacuum must keep the dead rows of ${formatCount(held, 'transaction')}.`,
    action: `commit prepared ${literal(gid)}, or: rollback prepared ${literal(gid)}`,
    details: { gid, role: owner, seconds, heldTransactions: held },
  }))
}

async function wraparound({ query, limits, note }: CheckContext): Promise<Finding[]> {
  const [row] = await query(sql<{ database: string; xids: number; mxids: number }>`
    select datname::text as database, age(datfrozenxid) as xids, mxid_age(datminmxid) as mxids
    from pg_database where datname = current_database()`)
  if (!row) return []
  const { database, xids, mxids } = row
  note(`the oldest unfrozen transaction is ${formatCount(xids, 'transaction')} old`)
  const age = Math.max(xids, mxids)
  if (age < limits.transactionAge) return []
  const name = xids >= mxids ? 'transaction ids' : 'multixact ids'
  return [
    {
      code: 'wraparound',
      // At three times the limit, half a billion ids are left.
      severity: age >= 3 * limits.transactionAge ? 'error' : 'warning',
      message: `The database ${database} has used ${formatCount(age, name.slice(0, -1))} since it was last frozen; at 2,000,000,000, Postgres accepts no writes.`,
      action: 'End what holds the oldest snapshot, and then: vacuum (freeze, verbose)',
      details: { database, transactionIds: xids, multixactIds: mxids },
    },
  ]
}
