import type { FastifyInstance, FastifyRequest } from 'fastify'
import { ProblemError } from '../../errors.ts'
import { BoundedMap } from '../../primitives/bounded-map.ts'

/** How many requests a principal may send to one process. */
export interface RateLimit {
  requests: number
  /** Length of the window, in seconds. */
  seconds: number
}

const maxRememberedPrincipals = 10_000
const maxRememberedReads = 10_000
/** One read per job in this time is always allowed, so a client that polls as Retry-After says is never refused. */
const freeReadIntervalMs = 1_000

interface Window {
  endsAt: number
  left: number
  /** Reads of jobs that do not exist. A client that guesses ids gets no free reads. */
  misses: number
}

/** Counts the requests of each principal, and the reads of each job, in this process alone. */
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

  /** Whether the request is a free read. If it is, its time is recorded for the next read of the same job. */
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
 * Answers 429 to a principal that has used up its quota, with headers as in draft-ietf-httpapi-ratelimit-headers. Call it
 * after the hook that authenticates.
 */
export function limitRate(app: FastifyInstance, limit: RateLimit): void {
  const limiter = new RateLimiter(limit)
  const policy = `"default";q=${limit.requests};w=${limit.seconds}`

  app.addHook('onRequest', async (request, reply) => {
    const now = performance.now()
    const window = limiter.windowOf(request.principal, now)
    const secondsLeft = Math.max(1, Math.ceil((window.endsAt - now) / 1000))
    const isWithinQuota = window.left > 0
    // Evaluated even within the quota, because it records the time of the read.
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

const isJobRead = ({ method, url }: FastifyRequest['routeOptions']) =>
  [method].flat().some((name) => name === 'GET' || name === 'HEAD') &&
  (url === '/jobs/:id' || url === '/jobs/:id/result')
