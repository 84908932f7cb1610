import type { FastifyRequest } from 'fastify'
import { validate as isUuid } from 'uuid'
import type { Database } from '../db/database.ts'
import { ProblemError } from '../errors.ts'
import type { Authenticate, Identity } from '../identity.ts'
import { problemOfPrincipal } from '../primitives/principal.ts'
import { readable } from '../primitives/thrown.ts'
import { defaultScopes } from '../scopes.ts'
import { authenticateByLink, type LinkIdentity, linkTokenOf } from './job-link.ts'
import { codeOfStatus } from './protocol/problem.ts'

/** The properties that the hook sets. */
export const requestProperties = [
  'principal',
  'scopes',
  'operations',
  'keyId',
  'credentialExpiresAt',
  'linkedJobId',
] as const

/**
 * Creates an `onRequest` hook that authenticates the request and sets its {@link requestProperties}.
 *
 * @param options.usesKeys whether `identify` authenticates by API keys
 * @throws ProblemError unauthenticated
 */
export function createAuthenticationHook(
  { kysely }: Database,
  identify: Authenticate,
  options: { usesKeys: boolean },
): (request: FastifyRequest) => Promise<void> {
  return async (request) => {
    const token = linkTokenOf(request)
    if (token !== undefined) return authenticateLink(request, await authenticateByLink(kysely, token, options))
    const identity = toIdentity(await callAuthenticate(identify, request), request)
    const { principal, scopes = defaultScopes, operations, keyId, expiresAt } = identity
    Object.assign(request, { principal, scopes, operations, keyId, credentialExpiresAt: expiresAt })
  }
}

function authenticateLink(request: FastifyRequest, link: LinkIdentity | null): void {
  if (!link) throw new ProblemError('unauthenticated', 'The link has expired or is not valid; create a new one')
  const { expiresAt: credentialExpiresAt, ...rest } = link
  Object.assign(request, { ...rest, credentialExpiresAt })
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
function toIdentity(returned: unknown, { log }: FastifyRequest): Identity {
  if (returned === null || returned === undefined) throw new ProblemError('unauthenticated')
  const identity = (typeof returned === 'string' ? { principal: returned } : Object(returned)) as Identity
  const problem = problemOfIdentity(identity)
  if (problem) throw new TypeError(`authenticate must return null, a principal, or { principal, scopes }: ${problem}`)
  // The name may come from the client, so it is not an error of the app.
  const unusable = problemOfPrincipal(identity.principal)
  if (unusable) {
    log.warn(`authenticate returned a principal that cannot be used: it ${unusable}`)
    throw new ProblemError('unauthenticated', `The principal ${unusable}`)
  }
  if (identity.expiresAt && identity.expiresAt.getTime() <= Date.now()) throw new ProblemError('unauthenticated')
  return identity
}

function problemOfIdentity({ principal, scopes, operations, keyId, expiresAt }: Partial<Identity>): string | undefined {
  if (typeof principal !== 'string') return 'the principal must be a text'
  if (scopes !== undefined && !isTexts(scopes)) return 'scopes must be an array of texts'
  if (operations !== undefined && !isTexts(operations)) return 'operations must be an array of names'
  if (keyId !== undefined && !isUuid(keyId)) return 'keyId must be a UUID'
  if (expiresAt === undefined || (expiresAt instanceof Date && !Number.isNaN(expiresAt.getTime()))) return undefined
  return 'expiresAt must be a Date'
}

const isTexts = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((item) => typeof item === 'string')
