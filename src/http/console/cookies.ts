import type { FastifyReply, FastifyRequest } from 'fastify'

/** A cookie of the console. The browser sends it only to the console, and only for requests of the console's pages. */
export interface CookieOptions {
  /** The path of the console. */
  path: string
  isSecure: boolean
  /** Zero deletes the cookie. */
  maxAgeSeconds: number
}

/** Returns the value of a cookie. */
export function cookieOf({ headers }: FastifyRequest, name: string): string | undefined {
  const pairs = headers.cookie?.split(';').map((pair) => pair.trim()) ?? []
  return pairs.find((pair) => pair.startsWith(`${name}=`))?.slice(name.length + 1)
}

/** Adds a cookie to an answer (RFC 6265). */
export function setCookie(
  reply: FastifyReply,
  name: string,
  value: string,
  { path, isSecure, maxAgeSeconds }: CookieOptions,
): void {
  const attributes = [
    `Path=${path}`,
    `Max-Age=${maxAgeSeconds}`,
    'HttpOnly',
    'SameSite=Strict',
    ...(isSecure ? ['Secure'] : []),
  ]
  const others = [reply.getHeader('set-cookie') ?? []].flat() as string[]
  reply.header('set-cookie', [...others, [`${name}=${value}`, ...attributes].join('; ')])
}
