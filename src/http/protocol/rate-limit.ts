import type { FastifyInstance, FastifyRequest } from 'fastify'
import { BoundedMap } from '../../primitives/bounded-map.ts'
import { Quota, type RateLimit } from './quota.ts'

/**
 * The rate limit of `accepted api` and of the plugin if they are given none. It is on average a tenth of what one process
 * can accept, so that one principal cannot use up a process for long.
 */
export const defaultRateLimit: RateLimit = { requests: 60_000, seconds: 60 }

/** Failed authentications and unknown ids are rare. A client with this share of its requests may be guessing. */
const suspiciousShare = 0.1
const minSuspicious = 100

/** Returns how many requests with an unknown credential or an unknown id a client may send. */
export const suspiciousLimit = ({ requests, seconds }: RateLimit): RateLimit => ({
  requests: Math.ceil(Math.max(requests * suspiciousShare, Math.min(requests, minSuspicious))),
  seconds,
})

const maxRememberedReads = 10_000
/** Even without quota, each job can be read once in this time. A client that respects Retry-After never gets 429. */
const freeReadIntervalMs = 1_000

/** The statuses of results and cancellations that only a job has that exists. */
const ofEndedJobs: readonly number[] = [409, 424]

type JobRequest = FastifyRequest<{ Params: { id: string } }>

/** Remembers when each job was last read, and which jobs each principal has found. */
class JobReads {
  readonly #lastReads = new BoundedMap<number>(maxRememberedReads)
  readonly #found = new BoundedMap<true>(maxRememberedReads)

  /** Returns whether the request is a free read. Records the time of a free read for the next call. */
  takeFree({ routeOptions, params, principal }: JobRequest): boolean {
    if (!isJobRead(routeOptions)) return false
    const key = `${routeOptions.url} ${params.id} ${principal}`
    const now = performance.now()
    const lastRead = this.#lastReads.get(key)
    if (lastRead !== undefined && now - lastRead < freeReadIntervalMs) return false
    this.#lastReads.set(key, now)
    return true
  }

  hasFound({ params, principal }: JobRequest): boolean {
    return this.#found.get(`${params.id} ${principal}`) === true
  }

  recordFound({ params, principal }: JobRequest): void {
    this.#found.set(`${params.id} ${principal}`, true)
  }
}

/**
 * Answers 429 to a principal that has used up its quota, or that keeps asking for ids of jobs that it does not find. All
 * responses get the headers of draft-ietf-httpapi-ratelimit-headers. Call this function after the authentication hook is
 * added.
 *
 * @param jobUrl the route of a job; other routes of jobs are below it
 */
export function limitRate(app: FastifyInstance, limit: RateLimit, jobUrl: string): void {
  const quota = new Quota('default', limit)
  const misses = new Quota('unknown-ids', suspiciousLimit(limit))
  const reads = new JobReads()
  const isOfJob = (request: FastifyRequest): request is JobRequest => {
    const { url = '' } = request.routeOptions
    return url === jobUrl || url.startsWith(`${jobUrl}/`)
  }

  app.addHook('onRequest', (request, reply, done) => {
    const { principal } = request
    const isOfUnknownJob = isOfJob(request) && misses.isUsedUp(principal) && !reads.hasFound(request)
    // Called even within the quota, because the call records the time of the read.
    const isFreeRead = isOfJob(request) && reads.takeFree(request)
    const isWithinQuota = quota.use(principal)
    reply.headers(quota.headersOf(principal))
    if (isOfUnknownJob) {
      return done(misses.refusal(principal, 'This principal has asked for too many unknown jobs'))
    }
    if (isWithinQuota || isFreeRead) return done()
    done(quota.refusal(principal, 'This principal has sent too many requests'))
  })
  app.addHook('onResponse', (request, { statusCode }, done) => {
    // The result of a job that failed may have the status 404, too.
    if (isOfJob(request) && !reads.hasFound(request)) {
      if (statusCode === 404 || statusCode === 410) misses.use(request.principal)
      else if (statusCode < 400 || ofEndedJobs.includes(statusCode)) reads.recordFound(request)
    }
    done()
  })
}

// HEAD routes have the schema of the GET route.
const isJobRead = ({ schema }: FastifyRequest['routeOptions']) =>
  schema?.operationId === 'getJob' || schema?.operationId === 'getJobResult'
