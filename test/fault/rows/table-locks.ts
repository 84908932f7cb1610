import pg from 'pg'
import { findBlockedBackends } from '../../support/database.ts'
import { until } from '../../support/until.ts'
import { countOutcomes, findServerErrors } from '../findings.ts'
import { startReaders } from '../readers.ts'
import {
  findSpentAttempts,
  findStandstill,
  type Row,
  type RowContext,
  waitForAcknowledgements,
  waitUntilDrained,
} from '../row.ts'

/** The tables that every request, or every job with a key, reads or writes. */
const hotTables = [
  'accepted.job',
  'accepted_queue.job',
  'accepted.idempotency_key',
  'accepted.processed_key',
  'accepted.change',
]

const lockSeconds = 4

export const tableLocks: Row = {
  name: 'table-locks',
  summary:
    'A DBA locks each table for 4 s under load. Requests wait or are answered with 503 and Retry-After, no attempt is spent, and everything recovers.',
  async run(context) {
    const load = context.startLoad({ connections: 20 })
    const findings = await findStandstill(context, load, 20)
    await using readers = startReaders(context)
    const others = await findOtherTables(context)
    const targets = context.isShort ? hotTables.slice(0, 2) : [...hotTables, others.join(', ')]
    let slowestSeconds = 0
    for (const tables of targets) {
      if (findings.length > 0) break
      await lockTables(context, tables)
      const releasedAt = performance.now()
      const standstill = await findStandstill(context, load, 20)
      findings.push(...standstill.map((finding) => `${finding} after the lock on ${tables}`))
      slowestSeconds = Math.max(slowestSeconds, (performance.now() - releasedAt) / 1000)
    }
    await waitForAcknowledgements(load, 20)
    await load.stop()
    findings.push(...(await readers.stop()), ...findServerErrors(load.refusals, load.unknownOutcomes))
    await waitUntilDrained(context, 60)
    return {
      faultCount: targets.length,
      notes: [
        `accepted and settled again at most ${slowestSeconds.toFixed(1)} s after a lock`,
        `${readers.count()} reads`,
        ...countOutcomes(load.unknownOutcomes, load.refusals),
      ],
      findings: [...findings, ...(await findSpentAttempts(context))],
    }
  },
}

/** Holds the strongest lock on tables for {@link lockSeconds}. Fails if no other backend waits for it. */
async function lockTables({ databaseUrl, query }: RowContext, tables: string): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  try {
    await client.query('begin')
    await client.query(`lock table ${tables} in access exclusive mode`)
    const held = client.query(`select pg_sleep(${lockSeconds})`)
    await until(async () => (await findBlockedBackends(query)).length > 0)
    await held
  } finally {
    await client.end()
  }
}

/** Returns all other tables of both schemas. A lock on a partitioned table includes its partitions. */
async function findOtherTables({ query }: RowContext): Promise<string[]> {
  const rows = await query(
    `select oid::regclass::text as name from pg_class
    where relnamespace in ('accepted'::regnamespace, 'accepted_queue'::regnamespace) and relkind in ('r', 'p')
      and not relispartition and oid <> all($1::regclass[])
    order by 1`,
    [hotTables],
  )
  return rows.map(({ name }) => name)
}
