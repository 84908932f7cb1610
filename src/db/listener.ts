import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import type { Database } from './database.ts'
import { sharesSession } from './pooler.ts'

/** A connection that listens until it is closed. */
export interface Listener {
  /** Whether what is notified now is heard. */
  isListening(): boolean
  close(): Promise<void>
}

export interface ListenerOptions {
  /** What to do with a payload, for each channel. */
  channels: Readonly<Record<string, (payload: string) => void>>
  /** Called whenever listening (re)starts: what was notified before then is lost, so look. */
  onListening: () => void
  onError: (error: Error) => void
}

/** How often a quiet connection is asked whether it is still there, in milliseconds. */
const heartbeatEvery = 10_000
const heartbeatTimeout = 5_000
/** Pause before the next attempt to connect, in milliseconds; doubles up to the longest. */
const firstPause = 100
const longestPause = 5_000
/** Through a pooler that keeps notifications to itself nothing is heard; so long until it is looked at again. */
const deafPause = 60_000

const deaf =
  'Notifications do not come through a pooler in transaction mode, so everything is found by polling: set DATABASE_LISTEN_URL (in an app of your own `database: { listenUrl }`) to Postgres directly'

/**
 * Listens on channels over one connection of its own, and connects again when the connection breaks or falls silent.
 * Never rejects: while Postgres is away, those who wait for payloads look by themselves.
 */
export function listen(database: Database, options: ListenerOptions): Listener {
  const closing = new AbortController()
  let client: pg.Client | undefined
  let isListening = false
  let isDeaf = false

  const run = async () => {
    let pause = firstPause
    while (!closing.signal.aborted) {
      client = new pg.Client({
        connectionString: database.options.listenUrl,
        application_name: `${database.options.applicationName} listen`,
        connectionTimeoutMillis: heartbeatTimeout,
        query_timeout: heartbeatTimeout,
        keepAlive: true,
      })
      const ended = new Promise<void>((resolve) => {
        client?.once('end', resolve)
        client?.on('error', (error) => {
          options.onError(error)
          resolve()
        })
      })
      client.on('notification', ({ channel, payload }) => payload && options.channels[channel]?.(payload))
      try {
        await client.connect()
        if (await sharesSession(client, database.options.listenUrl)) {
          pause = deafPause
          if (!isDeaf) options.onError(new Error(deaf))
          isDeaf = true
        } else {
          for (const channel of Object.keys(options.channels)) {
            await client.query(`listen ${client.escapeIdentifier(channel)}`)
          }
          pause = firstPause
          isListening = true
          options.onListening()
          await watch(client, ended, closing.signal)
        }
      } catch (error) {
        if (!closing.signal.aborted) options.onError(error as Error)
      }
      isListening = false
      await client.end().catch(() => {})
      await sleep(pause, closing.signal)
      pause = Math.min(pause * 2, longestPause)
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

/** Returns when the connection has ended or closing is asked for; throws when it no longer answers. */
async function watch(client: pg.Client, ended: Promise<void>, closing: AbortSignal): Promise<void> {
  let over = false
  ended.then(() => {
    over = true
  })
  while (!over && !closing.aborted) {
    await Promise.race([ended, sleep(heartbeatEvery, closing)])
    if (!over && !closing.aborted) await client.query('select')
  }
}

/** Waits, or returns early when the signal is aborted. */
const sleep = (milliseconds: number, signal: AbortSignal): Promise<void> =>
  delay(milliseconds, undefined, { signal }).catch(() => {})
