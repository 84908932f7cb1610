import { hash } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import { ProblemError } from '../../errors.ts'
import { BoundedMap } from '../../primitives/bounded-map.ts'
import { networkOf } from '../../primitives/networks.ts'
import { Quota, type RateLimit } from './quota.ts'

const maxRememberedCredentials = 10_000

type AuthenticationHook = (request: FastifyRequest) => Promise<void>

/**
 * Limits how often a client address may fail to authenticate. Above the limit, a failure gets 429 instead of 401, and a
 * credential that is not known to be good is refused unread, so that it costs no query. Credentials that were good before
 * still work: a whole company or a proxy may have one address.
 */
export function limitFailures(authenticate: AuthenticationHook, limit: RateLimit): AuthenticationHook {
  const failures = new Quota('failed-authentication', limit)
  const good = new BoundedMap<true>(maxRememberedCredentials)
  const refuse = (address: string) =>
    failures.refusal(address, 'Too many requests from this address were not authenticated')

  return async (request) => {
    const { authorization } = request.headers
    const credential = authorization === undefined ? undefined : hash('sha256', authorization, 'base64')
    const address = networkOf(request.ip ?? '')
    if (credential !== undefined && !good.get(credential) && failures.isUsedUp(address)) throw refuse(address)
    try {
      await authenticate(request)
    } catch (error) {
      if (!(error instanceof ProblemError) || error.code !== 'unauthenticated') throw error
      if (credential !== undefined) good.delete(credential)
      throw failures.use(address) ? error : refuse(address)
    }
    if (credential !== undefined) good.set(credential, true)
  }
}
