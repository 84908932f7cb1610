import { setTimeout as delay } from 'node:timers/promises'
import type { Database } from './database.ts'
import { PinnedClient } from './pinned-client.ts'
import { sharesSession } from './pooler.ts'
import { markPostgresError } from './postgres-error.ts'

/** Listens for notifications until it is closed. */
export interface Listener {
  /** Returns whether a notification that is sent now is received. */
  isListening(): boolean
  close(): Promise<void>
}

export interface ListenerOptions {
  /** For each channel, the function that handles a payload. */
  channels: Readonly<Record<string, (payload: string) => void>>
  /**
   * Called whenever listening starts, also after a reconnect. Earlier notifications may have been lost, so poll in this
   * function.
   */
  onListening: () => void
  onError: (error: Error) => void
}

/** How often the connection is tested. */
const probeIntervalMs = 10_000
/** Limits how long connecting and each statement may take. */
const answerTimeoutMs = 5_000
/** The delay before the next attempt to connect. It doubles with each attempt, from the minimum up to the maximum. */
const minReconnectDelayMs = 100
const maxReconnectDelayMs = 5_000
/** The delay when the connection goes through a pooler that does not pass notifications on. */
const pooledReconnectDelayMs = 60_000

const notificationsBlocked =
  'Notifications do not pass through a pooler in transaction mode, so changes are found only by polling: set DATABASE_LISTEN_URL (in code: `database: { listenUrl }`) to the URL of Postgres itself'

/**
 * Listens on channels over a connection of its own. Reconnects when the connection breaks or stops answering. Reports
 * errors only to `onError`, because polling finds the changes while Postgres cannot send notifications.
 */
export function listen(database: Database, options: ListenerOptions): Listener {
  const closing = new AbortController()
  let isListening = false
  let isPoolerReported = false
  let reconnectDelayMs = minReconnectDelayMs

  const listenUntilEnded = async ({ client, ended }: ListenerConnection) => {
    await client.connect()
    if (await sharesSession(client, database.server.listen)) {
      reconnectDelayMs = pooledReconnectDelayMs
      if (!isPoolerReported) options.onError(new Error(notificationsBlocked))
      isPoolerReported = true
      return
    }
    for (const channel of Object.keys(options.channels)) {
      await client.query(`listen ${client.escapeIdentifier(channel)}`)
    }
    // The next connection may lead to the same read-only server.
    if (!client.isReadOnly()) reconnectDelayMs = minReconnectDelayMs
    isListening = true
    options.onListening()
    await probeUntilEnded(client, ended, closing.signal)
  }

  const run = async () => {
    while (!closing.signal.aborted) {
      const connection = createConnection(database, options)
      await listenUntilEnded(connection).catch((error: Error) => {
        if (!closing.signal.aborted) options.onError(markPostgresError(error))
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

interface ListenerConnection {
  client: PinnedClient
  /** Resolves when the connection has ended or broken, or when its server has become read-only. */
  ended: Promise<void>
}

function createConnection({ options, server }: Database, { channels, onError }: ListenerOptions): ListenerConnection {
  const client = new PinnedClient({
    ...server.listen,
    application_name: `${options.applicationName} listen`,
    connectionTimeoutMillis: answerTimeoutMs,
    query_timeout: answerTimeoutMs,
    keepAlive: true,
  })
  const ended = new Promise<void>((resolve) => {
    client.once('end', resolve)
    client.onReadOnly = resolve
    client.on('error', (error) => {
      onError(markPostgresError(error))
      resolve()
    })
  })
  client.on('notification', ({ channel, payload }) => payload && channels[channel]?.(payload))
  return { client, ended }
}

/**
 * Tests the connection at intervals. Returns when the connection has ended, when its server is read-only, or when the
 * signal is aborted: the processes that send notifications then use another server. Throws when the connection does not
 * answer in time.
 */
async function probeUntilEnded(client: PinnedClient, ended: Promise<void>, closing: AbortSignal): Promise<void> {
  let hasEnded = false
  ended.then(() => {
    hasEnded = true
  })
  while (!hasEnded && !closing.aborted) {
    await Promise.race([ended, sleep(probeIntervalMs, closing)])
    if (!hasEnded && !closing.aborted) await client.query('select')
    if (client.isReadOnly()) return
  }
}

/** Waits for a time, or until the signal is aborted. */
const sleep = (milliseconds: number, signal: AbortSignal): Promise<void> =>
  delay(milliseconds, undefined, { signal }).catch(() => {})
