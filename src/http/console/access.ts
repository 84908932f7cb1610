import type { FastifyRequest } from 'fastify'
import { ProblemError } from '../../errors.ts'
import { hasHadKeys } from '../../jobs/api-key.ts'
import { isLoopbackAddress, isLoopbackHost } from '../../primitives/networks.ts'
import { isOperator } from '../../scopes.ts'
import type { AcceptedOptions } from '../options.ts'
import { assertSameOrigin } from '../protocol/forms.ts'
import type { Service } from '../service.ts'
import { cookieOf } from './cookies.ts'
import { findSession } from './session.ts'

export const sessionCookie = 'accepted_console'

/** Thrown when a request needs a session. The answer is the login page. */
export class LoginRequired extends Error {
  override name = 'LoginRequired'
}

type Hook = (request: FastifyRequest) => Promise<void>

/**
 * Creates an `onRequest` hook that lets operators in. The `authenticate` of an app decides by itself. Otherwise, a session
 * of an API key is needed. Until the first key exists, the console is open on this machine.
 *
 * @throws LoginRequired, ProblemError unauthenticated, forbidden
 */
export function guardConsole({ database }: Service, authenticate: Hook, options: AcceptedOptions): Hook {
  const identify = async (request: FastifyRequest) => {
    if (options.authenticate) return authenticate(request)
    const token = cookieOf(request, sessionCookie)
    const session = token === undefined ? undefined : await findSession(database.kysely, token)
    if (session) return void Object.assign(request, session)
    if (!isLocal(request) || (await hasHadKeys(database.kysely))) throw new LoginRequired()
    Object.assign(request, { principal: 'anonymous', scopes: ['operate'], operations: undefined, keyId: undefined })
  }
  return async (request) => {
    await identify(request)
    assertOperator(request)
  }
}

/** @throws ProblemError forbidden */
export function assertOperator({ scopes, operations }: FastifyRequest): void {
  if (!isOperator(scopes)) throw new ProblemError('forbidden', 'The console requires the scope operate or admin')
  // The views show all operations.
  if (operations) throw new ProblemError('forbidden', 'A key that is limited to operations cannot use the console')
}

/** Also checks the name: a page of another site can make its own name lead to this machine (DNS rebinding). */
const isLocal = ({ ip, socket, hostname }: FastifyRequest): boolean =>
  isLoopbackAddress(ip) && isLoopbackAddress(socket.remoteAddress) && isLoopbackHost(hostname.replace(/^\[|\]$/g, ''))

/**
 * Creates an `onRequest` hook that refuses forms of other origins. The cookie is SameSite=Strict, but other subdomains
 * belong to the same site, and the app's own `authenticate` may read other cookies.
 *
 * @throws ProblemError foreign-origin
 */
export function refuseForeignForms(service: Service): Hook {
  return async (request) => {
    if (request.method !== 'GET' && request.method !== 'HEAD') assertSameOrigin(service, request)
  }
}
