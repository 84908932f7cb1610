import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { sql } from 'kysely'
import type pg from 'pg'
import { connectOutsidePool } from '../db/pool.ts'
import { sharesSession } from '../db/pooler.ts'
import { formatNumber } from '../primitives/format-count.ts'
import { redact } from '../primitives/redact.ts'
import type { Check, CheckContext, Finding } from './check.ts'

const channel = 'accepted_doctor'

/** Limits how long connecting and each statement may take. */
const answerTimeoutMs = 5_000

const setListenUrl = 'Set DATABASE_LISTEN_URL to the URL of Postgres itself, without the pooler.'

/** Whether a notification that is sent through DATABASE_URL arrives at DATABASE_LISTEN_URL. */
export const notifications: Check = {
  name: 'notifications',
  async run(context) {
    const used = await queueUsage(context)
    let client: pg.Client | undefined
    try {
      client = await connectOutsidePool({
        ...context.database.server.listen,
        application_name: 'accepted doctor listen',
        connectionTimeoutMillis: answerTimeoutMs,
        query_timeout: answerTimeoutMs,
      })
      return [...used, ...(await roundTrip(context, client))]
    } catch (error) {
      const message = `DATABASE_LISTEN_URL cannot be used to listen: ${redact((error as Error).message)}.`
      return [...used, { code: 'listen-failed', severity: 'error', message, action: setListenUrl }]
    } finally {
      await client?.end().catch(() => {})
    }
  },
}

async function roundTrip({ database, limits, note }: CheckContext, client: pg.Client): Promise<Finding[]> {
  if (await sharesSession(client, database.server.listen)) {
    const message =
      'Notifications do not pass through the pooler in transaction mode: workers and clients learn of changes up to 2 s later.'
    return [{ code: 'listen-through-pooler', severity: 'error', message, action: setListenUrl }]
  }
  const readPlace = 'select current_database()::text as database, pg_postmaster_start_time()::text as started'
  const { rows: here } = await client.query(readPlace)
  const { rows: there } = await database.pool.query(readPlace)
  if (JSON.stringify(here) !== JSON.stringify(there)) {
    const message = `DATABASE_LISTEN_URL leads to another database or server (${here[0].database}) than DATABASE_URL (${there[0].database}), so no notification arrives.`
    return [{ code: 'listen-elsewhere', severity: 'error', message, action: setListenUrl }]
  }
  await client.query(`listen ${channel}`)
  const payload = randomUUID()
  const arrived = waitFor(client, payload, AbortSignal.timeout(limits.notificationMs))
  const sentAt = performance.now()
  await database.pool.query('select pg_notify($1, $2)', [channel, payload])
  if (await arrived) {
    note(`a notification took ${formatNumber(performance.now() - sentAt)} ms`)
    return []
  }
  const message = `A notification did not arrive within ${limits.notificationMs / 1_000} s.`
  return [{ code: 'notification-lost', severity: 'error', message, action: setListenUrl }]
}

/** Returns whether the notification arrives. Another run of this command may use the channel too. */
async function waitFor(client: pg.Client, payload: string, signal: AbortSignal): Promise<boolean> {
  try {
    for (;;) {
      const [notification] = (await once(client, 'notification', { signal })) as [pg.Notification]
      if (notification.channel === channel && notification.payload === payload) return true
    }
  } catch {
    return false
  }
}

async function queueUsage({ query, limits }: CheckContext): Promise<Finding[]> {
  const [row] = await query(sql<{ share: number }>`select pg_notification_queue_usage() as share`)
  const share = row?.share ?? 0
  if (share < limits.notificationQueueShare) return []
  return [
    {
      code: 'notification-queue-full',
      severity: 'error',
      message: `${(100 * share).toPrecision(2)} % of the notification queue is in use, because a session that listens is in a long transaction. When the queue is full, every NOTIFY fails.`,
      action:
        'End the oldest transaction: select pid, application_name from pg_stat_activity where xact_start is not null order by xact_start',
      details: { share },
    },
  ]
}
