import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Journal } from './journal.ts'

/** How long an answer may take before the outcome counts as unknown, in milliseconds. */
const answerWithin = 15_000
/** Between attempts of one intent, in milliseconds. */
const pause = 100

export interface LoadOptions {
  journal: Journal
  /** Where to send the next request; asked anew for each attempt. */
  url: () => string
  /** Requests at once. */
  connections?: number
  /** Which routes, in turn. */
  paths?: readonly string[]
  /** What the body holds besides the token. */
  body?: object
}

/** Clients that submit one intent after the other. */
export interface Load {
  /** Acknowledgements so far. */
  acknowledged(): number
  /** Answers so far that were neither an acknowledgement nor unknown, by status and code. */
  refusals: Map<string, number>
  /** Unknown outcomes so far, by reason. */
  unknowns: Map<string, number>
  /** Begins no more intents; resolves when each has its outcome or cannot get one. */
  stop(): Promise<void>
  /** The same, but nothing is repeated any more. */
  abandon(): Promise<void>
}

/** With a key, how long an intent is repeated after the load was stopped, in milliseconds: until everything is up again. */
const repeatFor = 60_000

/**
 * Starts clients. Half of the intents carry an Idempotency-Key, and those are repeated with it until they are
 * acknowledged; the others are given up when their outcome is unknown, for to repeat them could do them twice.
 */
export function startLoad({
  journal,
  url,
  connections = 6,
  paths = ['/settled', '/performed'],
  body,
}: LoadOptions): Load {
  let acknowledged = 0
  let stopped = false
  let stoppedAt = Number.POSITIVE_INFINITY
  let count = 0
  const refusals = new Map<string, number>()
  const unknowns = new Map<string, number>()
  const add = (to: Map<string, number>, why: string) => to.set(why, (to.get(why) ?? 0) + 1)

  const submit = async (number: number) => {
    const token = randomUUID()
    const key = number % 2 === 0 ? `key-${token}` : undefined
    const path = paths[Math.floor(number / 2) % paths.length] as string
    for (;;) {
      await journal.append({ token, happening: 'invoked', ...(key && { key }) })
      const outcome = await attempt(url() + path, { ...body, token }, key)
      await journal.append({ token, ...(key && { key }), ...outcome })
      if (outcome.happening === 'acknowledged') {
        acknowledged += 1
        return
      }
      add(outcome.happening === 'unknown' ? unknowns : refusals, outcome.why)
      if (outcome.happening === 'unknown' && !key) return
      if (stopped && (!key || performance.now() - stoppedAt > repeatFor)) return
      await delay(pause)
    }
  }
  const connection = async () => {
    while (!stopped) await submit(count++)
  }
  const running = Promise.all(Array.from({ length: connections }, connection))
  return {
    acknowledged: () => acknowledged,
    refusals,
    unknowns,
    async stop() {
      stopped = true
      stoppedAt = performance.now()
      await running
    },
    async abandon() {
      stopped = true
      stoppedAt = Number.NEGATIVE_INFINITY
      await running
    },
  }
}

type Outcome =
  | { happening: 'acknowledged'; job: string; why: string }
  | { happening: 'refused' | 'unknown'; why: string }

/** Sends one request and says what the client may believe of it. */
export async function attempt(url: string, body: object, key?: string): Promise<Outcome> {
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...(key && { 'idempotency-key': key }) },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(answerWithin),
    })
    // biome-ignore lint/suspicious/noExplicitAny: a body of any shape
    const answer: any = await response.json()
    if (response.status === 202) return { happening: 'acknowledged', job: answer.id, why: '202' }
    const code: string = answer.error?.code
    // The one answer that does not say that nothing was stored.
    const happening = code === 'database-unavailable' ? 'unknown' : 'refused'
    return { happening, why: `${response.status} ${code}` }
  } catch (error) {
    const { name, cause } = error as Error & { cause?: { code?: string } }
    const why = cause?.code ?? name
    // Never sent.
    return { happening: why === 'ECONNREFUSED' ? 'refused' : 'unknown', why }
  }
}
