import type { FastifyRequest } from 'fastify'

/** The supported preferences of a request (RFC 7240). */
export interface Preferences {
  /** Seconds to wait before answering, clamped to 55. */
  wait?: number
  return?: 'minimal' | 'representation'
  respondAsync?: true
}

/** Below 60 s, after which common proxies and load balancers time out. */
const maxWaitSeconds = 55

const token = /[!#$%&'*+.^_`|~\w-]+/.source
const quoted = /"(?:[^"\\]|\\.)*"/.source
// Any preference may have parameters after a semicolon; the supported ones have none.
const preferencePattern = new RegExp(`^(${token})(?:\\s*=\\s*(${token}|${quoted}))?\\s*(?:;.*)?$`)
// Splits at commas outside quotes; an unterminated quote extends to the end.
const listItems = /(?:[^",]|"(?:[^"\\]|\\(?:.|$))*(?:"|$))+/g

/**
 * Reads `Prefer`. The first of repeated preferences counts; malformed and unknown ones are ignored.
 *
 * @param header the field lines
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

/** Reads the preference `wait`; undefined if it is absent, or for HEAD, which never waits. */
export const waitSecondsOf = ({ method, headers }: FastifyRequest): number | undefined =>
  method === 'HEAD' ? undefined : parsePrefer(headers.prefer).wait

/** Returns the `Preference-Applied` header for the preferences that were honoured; no header if there are none. */
export function preferenceApplied(honoured: Preferences): Record<string, string> {
  const applied = [
    ...(honoured.respondAsync ? ['respond-async'] : []),
    ...(honoured.wait === undefined ? [] : [`wait=${honoured.wait}`]),
    ...(honoured.return ? [`return=${honoured.return}`] : []),
  ]
  return applied.length > 0 ? { 'preference-applied': applied.join(', ') } : {}
}
