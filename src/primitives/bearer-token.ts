import { hash, timingSafeEqual } from 'node:crypto'

const digest = (text: string): Buffer => hash('sha256', text, 'buffer')

/** Returns the token in the header Authorization (RFC 6750, section 2.1). Undefined if the header contains none. */
export const bearerTokenOf = (authorization: string | undefined): string | undefined =>
  authorization?.match(/^Bearer +([\x21-\x7e]+)$/i)?.[1]

/** Returns whether the header Authorization contains a token. Takes the same time for every token that is wrong. */
export function isBearerToken(authorization: string | undefined, token: string): boolean {
  const given = bearerTokenOf(authorization)
  return given !== undefined && timingSafeEqual(digest(given), digest(token))
}
