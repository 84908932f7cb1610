import { sql } from 'kysely'
import { formatCount } from '../primitives/format-count.ts'
import type { Check, CheckContext, Finding } from './check.ts'
import { formatBytes, literal } from './format.ts'

interface Slot {
  name: string
  active: boolean
  /** Transactions whose dead rows vacuum must keep. */
  held: number
  bytes: number | null
}

interface Standby {
  pid: number
  name: string
  held: number
}

/** Replication slots and standbys that keep dead rows or WAL. */
export const replication: readonly Check[] = [
  { name: 'replication slots', run: replicationSlots },
  { name: 'standbys', run: standbys },
]

async function replicationSlots({ query, limits }: CheckContext): Promise<Finding[]> {
  const rows = await query(sql<Slot>`
    select * from (
      select slot_name::text as name, active, greatest(age(xmin), age(catalog_xmin), 0) as held,
        (pg_current_wal_lsn() - restart_lsn)::float8 as bytes
      from pg_replication_slots where not temporary
    ) slot
    where held >= ${limits.heldTransactions} or (not active and bytes >= ${limits.slotBytes})
    order by held desc, bytes desc limit ${limits.findings}`)
  return rows.map(({ name, active, held, bytes }) => ({
    code: 'replication-slot',
    severity: active ? 'warning' : 'error',
    message:
      `The replication slot ${name}, which ${active ? 'is in use' : 'nothing uses'}, keeps ` +
      `${formatBytes(bytes ?? 0)} of WAL, and the dead rows of ${formatCount(held, 'transaction')}.`,
    action: active
      ? 'Find out why its consumer lags: select * from pg_stat_replication'
      : `Start its consumer, or: select pg_drop_replication_slot(${literal(name)})`,
    details: { slot: name, active, heldTransactions: held, walBytes: bytes },
  }))
}

/** With `hot_standby_feedback`, the queries of a standby keep dead rows on the primary. */
async function standbys({ query, limits }: CheckContext): Promise<Finding[]> {
  const rows = await query(sql<Standby>`
    select pid, application_name as name, age(backend_xmin) as held from pg_stat_replication
    where age(backend_xmin) >= ${limits.heldTransactions}
    order by held desc limit ${limits.findings}`)
  return rows.map(({ pid, name, held }) => ({
    code: 'standby-feedback',
    severity: 'warning',
    message: `A query on the standby ${name} (pid ${pid}) makes vacuum keep the dead rows of ${formatCount(held, 'transaction')}, because of hot_standby_feedback.`,
    action: 'End the long transaction on the standby, or switch hot_standby_feedback off there.',
    details: { pid, application: name, heldTransactions: held },
  }))
}
