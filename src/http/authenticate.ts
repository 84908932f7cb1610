import type { FastifyRequest } from 'fastify'
import type { Authenticate, Scope } from '../config.ts'
import { ProblemError } from '../errors.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** The principal that `authenticate` returned for the caller. */
    principal: string
    /** The caller's scopes. A principal needs no scope to access its own jobs. */
    scopes: readonly string[]
  }
}

/**
 * Creates an `onRequest` hook that sets `request.principal` and `request.scopes`.
 *
 * @throws ProblemError unauthenticated
 */
export function createAuthenticationHook(identify: Authenticate): (request: FastifyRequest) => Promise<void> {
  return async (request) => {
    const identity = await identify(request)
    if (identity === null) throw new ProblemError('unauthenticated')
    const { principal, scopes } = typeof identity === 'string' ? { principal: identity, scopes: [] } : identity
    request.principal = principal
    request.scopes = scopes
  }
}

/**
 * Creates an `onRequest` hook that refuses callers without the given scope. Add it after the authentication hook.
 *
 * @throws ProblemError forbidden
 */
export function requireScope(scope: Scope): (request: FastifyRequest) => Promise<void> {
  return async ({ scopes }) => {
    if (!scopes.includes(scope)) throw new ProblemError('forbidden', `This route requires the scope ${scope}`)
  }
}
