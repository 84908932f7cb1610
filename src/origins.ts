/**
 * Returns whether a text is an http(s) origin: scheme, host and an optional port. The pattern is needed because the URL
 * parser accepts malformed input and corrects it.
 */
export const isOrigin = (text: string): boolean =>
  /^https?:\/\/([\w.-]+|\[[\da-f:.]+\])(:\d*)?$/i.test(text) && URL.canParse(text)

/** Returns whether a text is an http(s) URL without credentials, query and fragment. It may have a path. */
export function isBaseUrl(text: string): boolean {
  const [, origin = '', path = ''] = text.match(/^([a-z]+:\/\/[^/]*)(\/.*)?$/i) ?? []
  return isOrigin(origin) && /^(\/[\w.~!$&'()*+,;=:@%-]+)*\/?$/.test(path)
}

/** Returns whether a text is an origin as browsers send it in the header Origin, or `*`. */
export const isCorsOrigin = (text: string): boolean => text === '*' || (isOrigin(text) && new URL(text).origin === text)
