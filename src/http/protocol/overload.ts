import type { Server } from 'node:http'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { ProblemError } from '../../errors.ts'

/** Above this average duration of a turn of the event loop, new requests are refused. */
const maxTurnMs = 1_000
/** A turn counts for about this long. */
const memoryMs = 1_000
/** A longer turn counts as this long, and at most for half of the average. So one long turn refuses nothing by itself. */
const maxCountedMs = 1.5 * maxTurnMs
const maxWeight = 0.5

/** Refused clients repeat their requests after a random time in this range, so that they do not come at once. */
const retrySeconds = { min: 1, max: 5 }
const logIntervalMs = 60_000

/** The share of a value that is left after a time. */
const decay = (ms: number): number => Math.exp(-ms / memoryMs)

/** While the average is above this, turns are measured even if no requests arrive, so that it is known when it ends. */
const busyMs = 100
const pollIntervalMs = 100

/**
 * Measures the turns of the event loop while requests arrive: the time in which the process answers no request. Unlike
 * `monitorEventLoopDelay`, and `@fastify/under-pressure` with it, this does not wake an idle process.
 */
class TurnMeter {
  #averageMs = 0
  #measuredAt = performance.now()
  #isMeasuring = false

  /** Returns the average duration of the last turns, weighted by their duration. Measures this turn and the next. */
  measure(): number {
    const now = performance.now()
    if (!this.#isMeasuring) {
      this.#isMeasuring = true
      setImmediate(() => {
        const endedAt = this.#record(now)
        // The next turn does not wait for events, so its duration is that of its work.
        setImmediate(() => {
          this.#record(endedAt)
          this.#measureWhileBusy()
        })
      })
    }
    return this.#averageMs * decay(now - this.#measuredAt)
  }

  /** A timer is late by the duration of the turn. */
  #measureWhileBusy(): void {
    this.#isMeasuring = this.#averageMs > busyMs
    if (!this.#isMeasuring) return
    const dueAt = performance.now() + pollIntervalMs
    const measure = () => {
      this.#record(Math.min(dueAt, performance.now()))
      this.#measureWhileBusy()
    }
    setTimeout(measure, pollIntervalMs).unref()
  }

  #record(startedAt: number): number {
    const now = performance.now()
    const idle = decay(startedAt - this.#measuredAt)
    const turnMs = now - startedAt
    const weight = Math.min(maxWeight, 1 - decay(turnMs))
    this.#averageMs = this.#averageMs * idle * (1 - weight) + Math.min(turnMs, maxCountedMs) * weight
    this.#measuredAt = now
    return now
  }
}

/** The scopes of a server share its meter. */
const meters = new WeakMap<Server, TurnMeter>()

/**
 * Refuses new requests with 503 while the event loop is so busy that answers take too long. Requests in progress, whose
 * jobs may be committed, are answered. Call this function before hooks that cost time are added.
 *
 * @param isExempt returns whether the route with this URL is always served
 */
export function shedLoad(scope: FastifyInstance, isExempt: (url: string) => boolean = () => false): void {
  const meter = meters.get(scope.server) ?? new TurnMeter()
  meters.set(scope.server, meter)
  let loggedAt = Number.NEGATIVE_INFINITY
  let refusedCount = 0
  scope.addHook('onRequest', (request, reply, done) => {
    const turnMs = meter.measure()
    if (turnMs <= maxTurnMs || isExempt(request.routeOptions.url ?? '')) return done()
    refusedCount += 1
    if (performance.now() - loggedAt > logIntervalMs) {
      loggedAt = performance.now()
      request.log.warn({ turnMs: Math.round(turnMs), refusedCount }, 'The event loop is too busy; answering 503')
    }
    const { min, max } = retrySeconds
    const retryAfterSeconds = min + Math.floor(Math.random() * (max - min + 1))
    if (!wantsEvents(request)) return done(new ProblemError('overloaded', undefined, { retryAfterSeconds }))
    // An EventSource does not connect again after an error.
    const headers = { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-store, no-transform' }
    reply.headers(headers).send(`retry: ${retryAfterSeconds * 1000}\n\n`)
  })
}

const wantsEvents = ({ headers, method }: FastifyRequest): boolean =>
  method === 'GET' && headers.accept?.includes('text/event-stream') === true
