import type { FastifyInstance, FastifyRequest } from 'fastify'
import { ProblemError } from '../../errors.ts'
import { BoundedMap } from '../../primitives/bounded-map.ts'

/** The number of requests that a principal may send to one process in a time window. */
export interface RateLimit {
  requests: number
  /** The length of the time window. */
  seconds: number
}

const maxRememberedPrincipals = 10_000
const maxRememberedReads = 10_000
/** Even without quota, each job can be read once in this time. A client that respects Retry-After never gets 429. */
const freeReadIntervalMs = 1_000

interface Window {
  endsAt: number
  left: number
  /** The number of reads of unknown jobs. A client with too many of them gets no free reads: it may be guessing ids. */
  misses: number
}

/** Counts the requests of each principal to this process, and remembers when each job was last read. */
class RateLimiter {
  readonly limit: RateLimit
  readonly #windows = new BoundedMap<Window>(maxRememberedPrincipals)
  readonly #lastReads = new BoundedMap<number>(maxRememberedReads)

  constructor(limit: RateLimit) {
    this.limit = limit
  }

  windowOf(principal: string, now: number): Window {
    const current = this.#windows.get(principal)
    if (current && now < current.endsAt) return current
    const window = { endsAt: now + this.limit.seconds * 1000, left: this.limit.requests, misses: 0 }
    this.#windows.set(principal, window)
    return window
  }

  /** Returns whether the request is a free read. Records the time of a free read for the next call. */
  takeFreeRead({ routeOptions, params, principal }: FastifyRequest, now: number): boolean {
    if (!isJobRead(routeOptions)) return false
    const key = `${routeOptions.url} ${(params as { id: string }).id} ${principal}`
    const lastRead = this.#lastReads.get(key)
    if (lastRead !== undefined && now - lastRead < freeReadIntervalMs) return false
    this.#lastReads.set(key, now)
    return true
  }
}

/**
 * Answers 429 to a principal that has used up its quota. All responses get the headers of
 * draft-ietf-httpapi-ratelimit-headers. Call this function after the authentication hook is added.
 */
export function limitRate(app: FastifyInstance, limit: RateLimit): void {
  const limiter = new RateLimiter(limit)
  const policy = `"default";q=${limit.requests};w=${limit.seconds}`

  app.addHook('onRequest', async (request, reply) => {
    const now = performance.now()
    const window = limiter.windowOf(request.principal, now)
    const secondsLeft = Math.max(1, Math.ceil((window.endsAt - now) / 1000))
    const isWithinQuota = window.left > 0
    // Called even within the quota, because the call records the time of the read.
    const isFreeRead = limiter.takeFreeRead(request, now) && window.misses < limit.requests
    if (isWithinQuota) window.left -= 1
    reply.headers({ 'ratelimit-policy': policy, ratelimit: `"default";r=${window.left};t=${secondsLeft}` })
    if (!isWithinQuota && !isFreeRead) {
      throw new ProblemError('too-many-requests', undefined, { retryAfterSeconds: secondsLeft })
    }
  })
  app.addHook('onResponse', async ({ routeOptions, principal }, { statusCode }) => {
    if (statusCode === 404 && isJobRead(routeOptions)) limiter.windowOf(principal, performance.now()).misses += 1
  })
}

// HEAD routes have the schema of the GET route.
const isJobRead = ({ schema }: FastifyRequest['routeOptions']) =>
  schema?.operationId === 'getJob' || schema?.operationId === 'getJobResult'
