import type { FastifyRequest } from 'fastify'

/** The supported preferences of a request (RFC 7240). */
export interface Preferences {
  /** How long the server may wait before it answers, in seconds: at most 55. */
  wait?: number
  return?: 'minimal' | 'representation'
  respondAsync?: true
}

/** Common proxies and load balancers close a connection that is silent for 60 s. */
const maxWaitSeconds = 55

const token = "[!#$%&'*+.^_`|~\\w-]+"
const quoted = '"(?:[^"\\\\]|\\\\.)*"'
// Ignores parameters after a semicolon, because the supported preferences have none.
const preferencePattern = new RegExp(`^(${token})(?:\\s*=\\s*(${token}|${quoted}))?\\s*(?:;.*)?$`)
// Matches each item of a list. Commas separate the items, except in quotes. An unterminated quote extends to the end.
const listItems = /(?:[^",]|"(?:[^"\\]|\\(?:.|$))*(?:"|$))+/g

/**
 * Reads the header `Prefer`. Ignores malformed and unknown preferences. If a preference is repeated, the first value
 * counts.
 *
 * @param header one value, or a list of values if the request repeats the header
 */
export function parsePrefer(header: string | string[] | undefined): Preferences {
  const found = new Map<string, string>()
  for (const item of [header ?? []].flat().join(',').match(listItems) ?? []) {
    const [, name, value = ''] = item.trim().match(preferencePattern) ?? []
    if (!name || found.has(name.toLowerCase())) continue
    found.set(name.toLowerCase(), value.replace(/^"(.*)"$/, '$1').replace(/\\(.)/g, '$1'))
  }
  const wait = found.get('wait')
  const representation = found.get('return')
  return {
    ...(wait && /^\d+$/.test(wait) && { wait: Math.min(Number(wait), maxWaitSeconds) }),
    ...((representation === 'minimal' || representation === 'representation') && { return: representation }),
    ...(found.get('respond-async') === '' && { respondAsync: true as const }),
  }
}

/** Reads the preference `wait`, in seconds. Returns undefined if it is absent, and always for a HEAD request. */
export const waitSecondsOf = ({ method, headers }: FastifyRequest): number | undefined =>
  method === 'HEAD' ? undefined : parsePrefer(headers.prefer).wait

/** Returns the header `Preference-Applied` with the honoured preferences, or no header if there are none. */
export function preferenceApplied(honoured: Preferences): Record<string, string> {
  const applied = [
    ...(honoured.respondAsync ? ['respond-async'] : []),
    ...(honoured.wait === undefined ? [] : [`wait=${honoured.wait}`]),
    ...(honoured.return ? [`return=${honoured.return}`] : []),
  ]
  return applied.length > 0 ? { 'preference-applied': applied.join(', ') } : {}
}
