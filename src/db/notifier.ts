import type { Database } from './database.ts'

/** Names operations that have work; the workers listen. */
export const workChannel = 'accepted_work'

/** Sends hints: small words that wake somebody who would otherwise look by himself a little later. */
export interface Notifier {
  /** Sends the word soon, together with others; the same word once. Call it after the commit, never within. */
  notify(word: string): void
  /** Resolves once everything that was notified has been sent, or has failed to be. */
  flush(): Promise<void>
}

/** How long words gather before they are sent, in milliseconds. */
const gatherFor = 2

/** NOTIFY takes payloads of less than 8000 bytes (PostgreSQL manual, NOTIFY). */
const longestPayload = 7_900

/**
 * Makes a notifier on a channel. NOTIFY inside a transaction takes one global lock at commit, so hints go in
 * transactions of their own; they may be lost without harm, and are when Postgres is away.
 */
export function createNotifier(database: Database, channel: string): Notifier {
  let words = new Set<string>()
  let sending: Promise<void> | undefined

  const send = async () => {
    await new Promise((resolve) => setTimeout(resolve, gatherFor))
    const payloads = pack(words)
    words = new Set()
    try {
      await database.pool.query('select pg_notify($1, payload) from unnest($2::text[]) as payload', [channel, payloads])
    } catch {
      // Whoever waits for the hint looks by himself.
    }
  }

  const sendAll = async () => {
    while (words.size > 0) await send()
    sending = undefined
  }

  return {
    notify(word) {
      words.add(word)
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
