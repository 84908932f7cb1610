import { setTimeout as delay, setImmediate as immediate } from 'node:timers/promises'
import type { Database } from './database.ts'

/** The channels of our hints, and what their words are. */
export const channels = {
  /** Operations that have work; the workers listen. */
  work: 'accepted_work',
  /** Jobs whose status has changed; the API listens, for those who watch. */
  status: 'accepted_status',
  /** Running jobs that are to be canceled; the workers listen. */
  cancel: 'accepted_cancel',
} as const

export type Channel = keyof typeof channels

/** Sends hints: small words that wake somebody who would otherwise look by himself a little later. */
export interface Notifier {
  /** Sends the words soon, together with others; the same word once. Call it after the commit, never within. */
  notify(channel: Channel, words: Iterable<string>): void
  /** Resolves once everything that was notified has been sent, or has failed to be. */
  flush(): Promise<void>
}

/** So long words gather after others have been sent, in milliseconds; the first ones are not kept waiting. */
const gatherFor = 5

/** NOTIFY takes payloads of less than 8000 bytes (PostgreSQL manual, NOTIFY). */
const longestPayload = 7_900

/**
 * Makes the notifier of a process. NOTIFY inside a transaction takes one global lock at commit, so hints go in
 * transactions of their own; they may be lost without harm, and are when Postgres is away.
 */
export function createNotifier(database: Database): Notifier {
  let words = new Map<Channel, Set<string>>()
  let sending: Promise<void> | undefined
  let sentAt = Number.NEGATIVE_INFINITY

  const send = async () => {
    const wait = sentAt + gatherFor - performance.now()
    await (wait > 0 ? delay(wait) : immediate())
    sentAt = performance.now()
    const hints = [...words].flatMap(([channel, ofChannel]) =>
      pack(ofChannel).map((payload) => ({ channel: channels[channel], payload })),
    )
    words = new Map()
    try {
      await database.pool.query(
        'select pg_notify(channel, payload) from unnest($1::text[], $2::text[]) as hint (channel, payload)',
        [hints.map(({ channel }) => channel), hints.map(({ payload }) => payload)],
      )
    } catch {
      // Whoever waits for the hint looks by himself.
    }
  }

  const sendAll = async () => {
    while (words.size > 0) await send()
    sending = undefined
  }

  return {
    notify(channel, more) {
      const ofChannel = words.get(channel) ?? new Set()
      for (const word of more) ofChannel.add(word)
      if (ofChannel.size === 0) return
      words.set(channel, ofChannel)
      sending ??= sendAll()
    },
    async flush() {
      await sending
    },
  }
}

function pack(words: Iterable<string>): string[] {
  const payloads: string[] = []
  let payload = ''
  for (const word of words) {
    if (payload && payload.length + word.length + 1 > longestPayload) {
      payloads.push(payload)
      payload = ''
    }
    payload = payload ? `${payload},${word}` : word
  }
  if (payload) payloads.push(payload)
  return payloads
}

/** The words of a payload. */
export const unpack = (payload: string): string[] => payload.split(',')
