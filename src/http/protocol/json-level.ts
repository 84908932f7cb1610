/** An object or an array that contains the current position. */
export interface Level {
  parent: Level | undefined
  /** The names of the members so far. Undefined in an array. */
  names: Set<string> | undefined
  /** The name of the current member, or the index of the current element. */
  current: string | number
}

/** Returns the JSON pointer to the current position (RFC 6901, section 3). */
export function pointerTo(level: Level | undefined): string {
  if (!level) return ''
  const { parent, current } = level
  return `${pointerTo(parent)}/${String(current).replaceAll('~', '~0').replaceAll('/', '~1')}`
}
