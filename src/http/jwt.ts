import type { JWTPayload, JWTVerifyGetKey } from 'jose'
import { ProblemError } from '../errors.ts'
import type { Authenticate } from '../identity.ts'
import { assertOptions } from '../primitives/assert-options.ts'
import { bearerTokenOf } from '../primitives/bearer-token.ts'
import { isLoopbackHost } from '../primitives/networks.ts'
import { problemOfPrincipal } from '../primitives/principal.ts'
import { isScope } from '../scopes.ts'

/** Only signatures with a public key. With a shared secret, every API process could sign tokens. */
const algorithms = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519']
/** The clocks of the issuer and of this machine may differ by this much. */
const clockToleranceSeconds = 5
const fetchTimeoutMs = 5_000
/** The latest time that a Date can be (ECMA-262, section 21.4.1.1). */
const maxTimeMs = 8.64e15

/** The options of {@link authenticateByJwt}. */
export interface JwtOptions {
  /** The URL of the issuer's public keys: a JSON Web Key Set (RFC 7517). They are fetched again when they change. */
  jwksUrl: string
  /** The claim `iss` that a token must have. */
  issuer: string
  /** The claim `aud` that a token must have: the name of this API. */
  audience: string
  /** Returns the principal of a token. Default: its claim `sub`. A token without a principal is refused. */
  principal?: (claims: JWTPayload) => string | undefined
  /**
   * Returns the scopes of a token. Default: the scopes of Accepted in its claim `scope` (RFC 8693, section 4.2) or `scp`;
   * for a token with neither claim, `submit`, `read` and `cancel`.
   */
  scopes?: (claims: JWTPayload) => readonly string[]
}

/**
 * Creates an `authenticate` function for JSON Web Tokens (RFC 7519) in the header `Authorization: Bearer`. A token must
 * have a signature by a public key of the issuer, and the claims `iss`, `aud` and `exp`. Streams end when it expires.
 *
 * @throws TypeError if an option is missing or invalid
 */
export function authenticateByJwt(options: JwtOptions): Authenticate {
  const jwksUrl = assertJwtOptions(options)
  const { issuer, audience, principal = subjectOf, scopes = scopesOf } = options
  const checks = { issuer, audience, algorithms, clockTolerance: clockToleranceSeconds, requiredClaims: ['exp'] }
  let findKey: JWTVerifyGetKey | undefined
  return async ({ headers }) => {
    const token = bearerTokenOf(headers.authorization)
    if (!token) return null
    // Loaded here, because every module that defines an operation imports this file, also in workers.
    const jose = await import('jose')
    findKey ??= createKeyFinder(jose, jwksUrl)
    const verified = await jose.jwtVerify(token, findKey, checks).catch((error: unknown) => {
      if (error instanceof jose.errors.JOSEError) return undefined
      throw error
    })
    if (!verified) return null
    const { payload } = verified
    const name = principal(payload)
    if (problemOfPrincipal(name)) return null
    const granted = scopes(payload)
    return {
      principal: name as string,
      expiresAt: new Date(Math.min(((payload.exp as number) + clockToleranceSeconds) * 1000, maxTimeMs)),
      ...(granted && { scopes: granted }),
    }
  }
}

/** Without the keys of the issuer, it is unknown whether a token is valid: the answer is 503, not 401. */
function createKeyFinder({ createRemoteJWKSet, errors }: typeof import('jose'), jwksUrl: URL): JWTVerifyGetKey {
  const find = createRemoteJWKSet(jwksUrl, { timeoutDuration: fetchTimeoutMs })
  const ofToken = [errors.JWKSNoMatchingKey, errors.JWKSMultipleMatchingKeys, errors.JOSENotSupported]
  return async (header, token) => {
    try {
      return await find(header, token)
    } catch (cause) {
      if (ofToken.some((kind) => cause instanceof kind)) throw cause
      throw new ProblemError('authentication-unavailable', undefined, { retryAfterSeconds: 5, cause })
    }
  }
}

function assertJwtOptions(options: JwtOptions): URL {
  assertOptions('authenticateByJwt', options, ['jwksUrl', 'issuer', 'audience', 'principal', 'scopes'])
  for (const name of ['issuer', 'audience'] as const) {
    const value: unknown = options[name]
    // Without these checks, tokens of other issuers, or for other programs, would be accepted.
    if (typeof value !== 'string' || value === '') {
      throw new TypeError(`authenticateByJwt requires the option ${name}: a text that is not empty`)
    }
  }
  const url = URL.parse(options.jwksUrl)
  if (url?.protocol === 'https:' || (url?.protocol === 'http:' && isLoopbackHost(url.hostname))) return url
  throw new TypeError('authenticateByJwt requires the option jwksUrl: an https URL, or an http URL of this machine')
}

const subjectOf = ({ sub }: JWTPayload): string | undefined => sub

function scopesOf({ scope, scp }: JWTPayload): readonly string[] | undefined {
  const given = scope ?? scp
  if (given === undefined) return undefined
  return (Array.isArray(given) ? given.map(String) : String(given).split(' ')).filter(isScope)
}
