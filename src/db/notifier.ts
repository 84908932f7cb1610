import { setTimeout as delay, setImmediate as immediate } from 'node:timers/promises'
import type { Database } from './database.ts'

/** The Postgres channel of each kind of notification. */
export const channels = {
  /** The names of operations that have due jobs. The workers listen. */
  work: 'accepted_work',
  /** Ids of jobs whose status has changed. The API listens, for the clients that watch jobs. */
  status: 'accepted_status',
  /** Ids of running jobs that must be canceled. The workers listen. */
  cancel: 'accepted_cancel',
  /** The names of operations with jobs in `accepted.ending`. The workers listen. */
  end: 'accepted_end',
} as const

export type Channel = keyof typeof channels

/** Sends notifications, so that the receivers need not wait for their next poll. */
export interface Notifier {
  /**
   * Sends operation names or job ids within milliseconds. Several calls share one statement, and an item that was
   * passed twice is sent once. Call this function after the commit. Otherwise the receiver may read before the change
   * is visible.
   */
  notify(channel: Channel, items: Iterable<string>): void
  /** Resolves once all notifications have been sent or have failed. */
  flush(): Promise<void>
}

/** The mean time between two sends while there is always something to send. Items are collected in the meantime. */
const intervalMs = 5
/** After quiet time, this many sends follow each other without a pause. A quick job has two, at its start and its end. */
const maxBurst = 4

/**
 * NOTIFY accepts payloads of less than 8,000 bytes (PostgreSQL manual, NOTIFY). Items are ASCII, so each character is
 * one byte.
 */
const maxPayloadBytes = 7_900

/**
 * Creates the notifier of a process. The notifier uses transactions of its own, because a transaction with NOTIFY holds
 * a global lock during its commit. While Postgres is unavailable, notifications are lost. The polls of the receivers
 * then find the changes.
 */
export function createNotifier(database: Database): Notifier {
  let unsent = new Map<Channel, Set<string>>()
  let sending: Promise<void> | undefined
  let nextAt = Number.NEGATIVE_INFINITY

  const send = async () => {
    const waitMs = nextAt - performance.now()
    await (waitMs > 0 ? delay(waitMs) : immediate())
    nextAt = Math.max(nextAt, performance.now() - (maxBurst - 1) * intervalMs) + intervalMs
    const notifications = [...unsent].flatMap(([channel, items]) =>
      pack(items).map((payload) => ({ channel: channels[channel], payload })),
    )
    unsent = new Map()
    try {
      await database.pool.query(
        'select pg_notify(channel, payload) from unnest($1::text[], $2::text[]) as notification (channel, payload)',
        [notifications.map(({ channel }) => channel), notifications.map(({ payload }) => payload)],
      )
    } catch {
      // A lost notification does no harm, because the receivers also poll.
    }
  }

  const sendAll = async () => {
    while (unsent.size > 0) await send()
    sending = undefined
  }

  return {
    notify(channel, items) {
      const ofChannel = unsent.get(channel) ?? new Set()
      for (const item of items) ofChannel.add(item)
      if (ofChannel.size === 0) return
      unsent.set(channel, ofChannel)
      sending ??= sendAll()
    },
    async flush() {
      await sending
    },
  }
}

/** Joins items into as few payloads as possible. */
function pack(items: Iterable<string>): string[] {
  const payloads: string[] = []
  let payload = ''
  for (const item of items) {
    if (payload && payload.length + item.length + 1 > maxPayloadBytes) {
      payloads.push(payload)
      payload = ''
    }
    payload = payload ? `${payload},${item}` : item
  }
  if (payload) payloads.push(payload)
  return payloads
}

/** Splits a payload into its items. */
export const unpack = (payload: string): string[] => payload.split(',')
