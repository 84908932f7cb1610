import type { FastifyRequest } from 'fastify'
import { validate as isUuid } from 'uuid'
import type { Authenticate, Identity, Scope } from '../config.ts'
import { ProblemError } from '../errors.ts'
import { readable } from '../primitives/thrown.ts'
import { codeOfStatus } from './protocol/problem.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** The principal that `authenticate` returned for the caller. */
    principal: string
    /** The caller's scopes. A principal needs no scope to access its own jobs. */
    scopes: readonly string[]
    /** The id of the API key, if the caller has sent one. */
    keyId: string | undefined
  }
}

/**
 * Creates an `onRequest` hook that sets `request.principal`, `request.scopes` and `request.keyId`.
 *
 * @throws ProblemError unauthenticated
 */
export function createAuthenticationHook(identify: Authenticate): (request: FastifyRequest) => Promise<void> {
  return async (request) => {
    const { principal, scopes, keyId } = toIdentity(await callAuthenticate(identify, request))
    request.principal = principal
    request.scopes = scopes
    request.keyId = keyId
  }
}

async function callAuthenticate(identify: Authenticate, request: FastifyRequest): Promise<unknown> {
  try {
    return await identify(request)
  } catch (error) {
    const thrown = readable(error)
    // For example, @fastify/jwt throws an error with the status 401. Its text may not be for the client.
    const code = thrown instanceof ProblemError ? undefined : codeOfStatus(Object(thrown).statusCode)
    throw code ? new ProblemError(code, undefined, { cause: thrown }) : thrown
  }
}

/** Checks what `authenticate` returned, because a wrong value could give a caller the jobs or the scopes of others. */
function toIdentity(identity: unknown): Identity {
  if (identity === null || identity === undefined) throw new ProblemError('unauthenticated')
  const given = typeof identity === 'string' ? { principal: identity, scopes: [] } : Object(identity)
  const { principal, scopes = [], keyId } = given as Partial<Identity>
  const isKeyId = keyId === undefined || isUuid(keyId)
  if (typeof principal === 'string' && principal !== '' && Array.isArray(scopes) && isKeyId) {
    return { principal, scopes, ...(keyId !== undefined && { keyId }) }
  }
  throw new TypeError('authenticate must return null, a text that is not empty, or { principal, scopes: [] }')
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
