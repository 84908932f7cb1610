import type { FastifyInstance, FastifyRequest } from 'fastify'
import { ProblemError } from '../errors.ts'
import { RecentMap } from '../recent-map.ts'

/** How many requests a principal may send to one process. */
export interface RateLimit {
  requests: number
  /** The window, in seconds. */
  seconds: number
}

/** Principals, and jobs, that are remembered. */
const mostRemembered = 10_000
/** A job may be read so often in any case, in milliseconds: who polls as we ask is never refused. */
const readEvery = 1_000

interface Window {
  endsAt: number
  left: number
  /** Reads of jobs that there are not; who guesses ids is not polling. */
  misses: number
}

/**
 * Answers 429 to a principal that has used up its quota; to be called after the hook that authenticates. The state is
 * that of this process alone. Headers as in draft-ietf-httpapi-ratelimit-headers.
 */
export function limitRate(app: FastifyInstance, { requests, seconds }: RateLimit): void {
  const windows = new RecentMap<Window>(mostRemembered)
  const lastReads = new RecentMap<number>(mostRemembered)
  const policy = `"default";q=${requests};w=${seconds}`

  const windowOf = (principal: string, now: number): Window => {
    const current = windows.get(principal)
    if (current && now < current.endsAt) return current
    const window = { endsAt: now + seconds * 1000, left: requests, misses: 0 }
    windows.set(principal, window)
    return window
  }
  const isDueRead = ({ routeOptions, params, principal }: FastifyRequest, now: number) => {
    if (!isReadOfJob(routeOptions)) return false
    const key = `${routeOptions.url} ${(params as { id: string }).id} ${principal}`
    const last = lastReads.get(key)
    if (last !== undefined && now - last < readEvery) return false
    lastReads.set(key, now)
    return true
  }

  app.addHook('onRequest', async (request, reply) => {
    const now = performance.now()
    const window = windowOf(request.principal, now)
    const renewedIn = Math.max(1, Math.ceil((window.endsAt - now) / 1000))
    const isWithin = window.left > 0
    // Also while there is something left, for the next read is counted from this one.
    const isDue = isDueRead(request, now) && window.misses < requests
    if (isWithin) window.left -= 1
    reply.headers({ 'ratelimit-policy': policy, ratelimit: `"default";r=${window.left};t=${renewedIn}` })
    if (!isWithin && !isDue) throw new ProblemError('too-many-requests', undefined, { retryAfterSeconds: renewedIn })
  })
  app.addHook('onResponse', async ({ routeOptions, principal }, { statusCode }) => {
    if (statusCode === 404 && isReadOfJob(routeOptions)) windowOf(principal, performance.now()).misses += 1
  })
}

const isReadOfJob = ({ method, url }: FastifyRequest['routeOptions']) =>
  [method].flat().some((one) => one === 'GET' || one === 'HEAD') && (url === '/jobs/:id' || url === '/jobs/:id/result')
