/**
 * Parses a JSON pointer (RFC 6901) into the names and indexes that it passes.
 *
 * @returns undefined when the pointer is invalid; an empty list for `''`, the whole document
 */
export const parsePointer = (pointer: string): string[] | undefined =>
  /^(?:\/(?:[^~/]|~[01])*)*$/.test(pointer)
    ? pointer
        .split('/')
        .slice(1)
        .map((token) => token.replaceAll('~1', '/').replaceAll('~0', '~'))
    : undefined

/**
 * Returns a document in which the value to which a pointer leads is replaced. The given document stays as it is. If the
 * pointer finds nothing, the documents are equal.
 *
 * @param document parsed JSON
 * @param tokens the result of {@link parsePointer}
 */
export function replaceAt(document: unknown, tokens: readonly string[], replace: (value: unknown) => unknown): unknown {
  const [token, ...more] = tokens
  if (token === undefined) return replace(document)
  if (Array.isArray(document)) {
    if (!/^(?:0|[1-9]\d*)$/.test(token) || Number(token) >= document.length) return document
    return document.with(Number(token), replaceAt(document[Number(token)], more, replace))
  }
  if (typeof document !== 'object' || document === null || !Object.hasOwn(document, token)) return document
  return { ...document, [token]: replaceAt((document as Record<string, unknown>)[token], more, replace) }
}
