import type { FastifyRequest } from 'fastify'

/** A principal with its permissions. */
export interface Identity {
  /** The owner of the jobs that the request creates. Without the scope `operate`, a principal sees only its own jobs. */
  principal: string
  /** What the caller may do. A scope that does not exist has no effect. Default: `submit`, `read` and `cancel`. */
  scopes?: readonly string[]
  /** The caller may submit and see only jobs of these operations. Default: all. */
  operations?: readonly string[]
  /** When the credential expires. Open streams of the caller then end. Default: never. */
  expiresAt?: Date
  /** The id of the API key, a UUID, for `accepted.audit`. */
  keyId?: string
}

type AuthenticateResult = string | Identity | null

/**
 * Authenticates a request.
 *
 * @returns the principal's name, a principal with scopes, or null to answer 401
 */
export type Authenticate = (request: FastifyRequest) => Promise<AuthenticateResult> | AuthenticateResult
