import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import type { Database } from './database.ts'
import { sharesSession } from './pooler.ts'

/** Listens for notifications until it is closed. */
export interface Listener {
  /** Whether notifications sent now are received. */
  isListening(): boolean
  close(): Promise<void>
}

export interface ListenerOptions {
  /** For each channel, the function that handles a payload. */
  channels: Readonly<Record<string, (payload: string) => void>>
  /** Called whenever listening starts or starts again: notifications sent before may have been lost, so poll now. */
  onListening: () => void
  onError: (error: Error) => void
}

/** How often the connection is tested. */
const probeIntervalMs = 10_000
/** Limits how long connecting and each statement may take. */
const answerTimeoutMs = 5_000
/** The delay before the next attempt to connect doubles from the minimum up to the maximum. */
const minReconnectDelayMs = 100
const maxReconnectDelayMs = 5_000
/** The delay when the connection goes through a pooler that does not pass notifications on. */
const pooledReconnectDelayMs = 60_000

const notificationsBlocked =
  'Notifications do not pass through a pooler in transaction mode, so changes are found only by polling: set DATABASE_LISTEN_URL (in code: `database: { listenUrl }`) to the URL of Postgres itself'

/**
 * Listens on channels over a connection of its own. Reconnects when the connection breaks or stops answering. Never
 * rejects: while Postgres is unavailable, polling finds what the notifications would have reported.
 */
export function listen(database: Database, options: ListenerOptions): Listener {
  const closing = new AbortController()
  let isListening = false
  let isPoolerReported = false
  let reconnectDelayMs = minReconnectDelayMs

  const listenUntilEnded = async ({ client, ended }: Connection) => {
    await client.connect()
    if (await sharesSession(client, database.options.listenUrl)) {
      reconnectDelayMs = pooledReconnectDelayMs
      if (!isPoolerReported) options.onError(new Error(notificationsBlocked))
      isPoolerReported = true
      return
    }
    for (const channel of Object.keys(options.channels)) {
      await client.query(`listen ${client.escapeIdentifier(channel)}`)
    }
    reconnectDelayMs = minReconnectDelayMs
    isListening = true
    options.onListening()
    await probeUntilEnded(client, ended, closing.signal)
  }

  const run = async () => {
    while (!closing.signal.aborted) {
      const connection = createConnection(database, options)
      await listenUntilEnded(connection).catch((error: Error) => {
        if (!closing.signal.aborted) options.onError(error)
      })
      isListening = false
      await connection.client.end().catch(() => {})
      await sleep(reconnectDelayMs, closing.signal)
      reconnectDelayMs = Math.min(reconnectDelayMs * 2, maxReconnectDelayMs)
    }
  }

  const running = run()
  return {
    isListening: () => isListening,
    async close() {
      closing.abort()
      await running
    },
  }
}

interface Connection {
  client: pg.Client
  /** Resolves when the connection has ended or broken. */
  ended: Promise<void>
}

function createConnection({ options }: Database, { channels, onError }: ListenerOptions): Connection {
  const client = new pg.Client({
    connectionString: options.listenUrl,
    application_name: `${options.applicationName} listen`,
    connectionTimeoutMillis: answerTimeoutMs,
    query_timeout: answerTimeoutMs,
    keepAlive: true,
  })
  const ended = new Promise<void>((resolve) => {
    client.once('end', resolve)
    client.on('error', (error) => {
      onError(error)
      resolve()
    })
  })
  client.on('notification', ({ channel, payload }) => payload && channels[channel]?.(payload))
  return { client, ended }
}

/**
 * Returns when the connection has ended or the signal is aborted. Throws when the connection does not answer in time.
 */
async function probeUntilEnded(client: pg.Client, ended: Promise<void>, closing: AbortSignal): Promise<void> {
  let hasEnded = false
  ended.then(() => {
    hasEnded = true
  })
  while (!hasEnded && !closing.aborted) {
    await Promise.race([ended, sleep(probeIntervalMs, closing)])
    if (!hasEnded && !closing.aborted) await client.query('select')
  }
}

/** Waits; returns early when the signal is aborted. */
const sleep = (milliseconds: number, signal: AbortSignal): Promise<void> =>
  delay(milliseconds, undefined, { signal }).catch(() => {})
