/** The preferences of a request that are understood here (RFC 7240). */
export interface Preferences {
  /** Seconds to hold the answer back until there is more to tell, clamped. */
  wait?: number
  return?: 'minimal' | 'representation'
  respondAsync?: true
}

/** Nothing on the way is known to give up before, in seconds. */
const longestWait = 55

const token = /[!#$%&'*+.^_`|~\w-]+/.source
const quoted = /"(?:[^"\\]|\\.)*"/.source
// Parameters after a semicolon are allowed for any preference; none of ours has one.
const preference = new RegExp(`^(${token})(?:\\s*=\\s*(${token}|${quoted}))?\\s*(?:;.*)?$`)
// A comma within quotes separates nothing; quotes that do not end reach to the end.
const parts = /(?:[^",]|"(?:[^"\\]|\\(?:.|$))*(?:"|$))+/g

/**
 * Reads `Prefer`. Of one that is there twice the first counts; what is malformed or unknown is ignored.
 *
 * @param header its field lines
 */
export function parsePrefer(header: string | string[] | undefined): Preferences {
  const found = new Map<string, string>()
  for (const part of [header ?? []].flat().join(',').match(parts) ?? []) {
    const [, name, value = ''] = part.trim().match(preference) ?? []
    if (!name || found.has(name.toLowerCase())) continue
    found.set(name.toLowerCase(), value.replace(/^"(.*)"$/, '$1').replace(/\\(.)/g, '$1'))
  }
  const wait = found.get('wait')
  const representation = found.get('return')
  return {
    ...(wait && /^\d+$/.test(wait) && { wait: Math.min(Number(wait), longestWait) }),
    ...((representation === 'minimal' || representation === 'representation') && { return: representation }),
    ...(found.get('respond-async') === '' && { respondAsync: true as const }),
  }
}

/** `Preference-Applied` for the preferences that were honoured. */
export function preferenceApplied(honoured: Preferences): Record<string, string> {
  const applied = [
    ...(honoured.respondAsync ? ['respond-async'] : []),
    ...(honoured.wait === undefined ? [] : [`wait=${honoured.wait}`]),
    ...(honoured.return ? [`return=${honoured.return}`] : []),
  ]
  return applied.length > 0 ? { 'preference-applied': applied.join(', ') } : {}
}
