import { hash, timingSafeEqual } from 'node:crypto'

const digest = (text: string): Buffer => hash('sha256', text, 'buffer')

/** Returns whether the header Authorization contains a token as RFC 6750 specifies, in a time that does not tell how much of it. */
export function isBearerToken(authorization: string | undefined, token: string): boolean {
  const given = authorization?.match(/^Bearer +([\x21-\x7e]+)$/i)?.[1]
  return given !== undefined && timingSafeEqual(digest(given), digest(token))
}
