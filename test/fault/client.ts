import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Journal } from './journal.ts'

/** If a request gets no response within this time, its outcome counts as unknown. */
const requestTimeoutMs = 15_000
/** The pause between two requests for one intent. */
const retryPauseMs = 100
/** After the load has stopped, intents with a key are retried for this time. By then, every process is up again. */
const maxRetryAfterStopMs = 60_000

/** Ends the reason of a 503 that does not say when to try again. */
export const withoutRetryAfter = 'without Retry-After'

export interface LoadOptions {
  journal: Journal
  /** Returns the base URL of the next request. */
  url: () => string
  /** How many clients send at once. */
  connections?: number
  /** The routes to use in turn. */
  paths?: readonly string[]
  /** Members of the body besides the token. */
  body?: object
}

/** A group of clients. Each client submits one intent after another. */
export interface Load {
  acknowledgedCount(): number
  /** Counts the requests that the server refused, by status and error code. */
  refusals: Map<string, number>
  /** Counts the requests whose outcome is unknown, by reason. */
  unknownOutcomes: Map<string, number>
  /** Starts no more intents. Resolves when every started intent is acknowledged or given up. */
  stop(): Promise<void>
  /** Starts no more intents. Does not retry the started intents. Resolves when every request has an outcome. */
  stopWithoutRetry(): Promise<void>
}

/**
 * Starts clients. Half of the intents have an Idempotency-Key. A client retries such an intent with the same key until
 * the intent is acknowledged. If the outcome of an intent without a key is unknown, the client gives it up, because a
 * retry could execute it twice.
 */
export function startLoad({
  journal,
  url,
  connections = 6,
  paths = ['/settled', '/performed'],
  body,
}: LoadOptions): Load {
  let acknowledged = 0
  let isStopped = false
  let retryUntil = Number.POSITIVE_INFINITY
  let intentCount = 0
  const refusals = new Map<string, number>()
  const unknownOutcomes = new Map<string, number>()
  const count = (counts: Map<string, number>, reason: string) => counts.set(reason, (counts.get(reason) ?? 0) + 1)

  const submit = async (number: number) => {
    const token = randomUUID()
    const key = number % 2 === 0 ? `key-${token}` : undefined
    const path = paths[Math.floor(number / 2) % paths.length] as string
    for (;;) {
      await journal.append({ token, event: 'invoked', ...(key && { key }) })
      const outcome = await sendRequest(url() + path, { ...body, token }, key)
      await journal.append({ token, ...(key && { key }), ...outcome })
      if (outcome.event === 'acknowledged') {
        acknowledged += 1
        return
      }
      count(outcome.event === 'unknown' ? unknownOutcomes : refusals, outcome.reason)
      if (outcome.event === 'unknown' && !key) return
      if (isStopped && (!key || performance.now() > retryUntil)) return
      await delay(retryPauseMs)
    }
  }
  const runConnection = async () => {
    while (!isStopped) await submit(intentCount++)
  }
  const running = Promise.all(Array.from({ length: connections }, runConnection))
  const stop = async (maxRetryMs: number) => {
    isStopped = true
    retryUntil = performance.now() + maxRetryMs
    await running
  }
  return {
    acknowledgedCount: () => acknowledged,
    refusals,
    unknownOutcomes,
    stop: () => stop(maxRetryAfterStopMs),
    stopWithoutRetry: () => stop(Number.NEGATIVE_INFINITY),
  }
}

type RequestOutcome =
  | { event: 'acknowledged'; job: string; reason: string }
  | { event: 'refused' | 'unknown'; reason: string }

/** Sends one request. Returns what the client knows about its outcome. */
export async function sendRequest(url: string, body: object, key?: string): Promise<RequestOutcome> {
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...(key && { 'idempotency-key': key }) },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(requestTimeoutMs),
    })
    // biome-ignore lint/suspicious/noExplicitAny: a body of any shape
    const answer: any = await response.json()
    if (response.status === 202) return { event: 'acknowledged', job: answer.id, reason: '202' }
    const code: string = answer.error?.code
    const hint = response.status === 503 && !response.headers.has('retry-after') ? ` ${withoutRetryAfter}` : ''
    // Only this error code leaves it open whether the server has stored the intent.
    const event = code === 'database-unavailable' ? 'unknown' : 'refused'
    return { event, reason: `${response.status} ${code}${hint}` }
  } catch (error) {
    const { name, cause } = error as Error & { cause?: { code?: string } }
    const reason = cause?.code ?? name
    // After ECONNREFUSED the server cannot have received anything.
    return { event: reason === 'ECONNREFUSED' ? 'refused' : 'unknown', reason }
  }
}
