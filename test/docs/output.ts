/** Parts of an output that differ from run to run. */
const placeholders = {
  /** A UUID. On one page, the same shown id always stands for the same real id. */
  id: /[\da-f]{8}-[\da-f]{4}-[\da-f]{4}-[\da-f]{4}-[\da-f]{12}/,
  /** A time in ISO 8601, or as psql shows it. */
  time: /\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00)/,
  /** An interval of Postgres. */
  duration: /\d\d:\d\d:\d\d(?:\.\d+)?/,
  /** A size, as pg_size_pretty shows it. */
  size: /\d+ (?:bytes|kB|MB|GB)\b/,
  /** The name of a partition. */
  partition: /\bjob_\d{8}\b/,
  /** A number with at least three decimals. */
  decimal: /\b\d+\.\d{3,}\b/,
  /** A word whose end is unknown, for example `whsec_…`. On one page, it always stands for the same real word. */
  word: /(?<=^|[\s=])[\w:/]+…(?=\s|$)/,
  /** Any text within a line. */
  anything: /…/,
} as const

const anyPlaceholder = new RegExp(
  Object.entries(placeholders)
    .map(([name, pattern]) => `(?<${name}>${pattern.source})`)
    .join('|'),
  'gm',
)

/** Remembers which real ids and words the shown ids and words of a page stand for. */
export interface Meanings {
  /**
   * Compares an output with the output shown. `…` alone on a line matches any lines; within a line it matches any text.
   * Shown ids, times and words like `whsec_…` match real ids, times and words. If the output matches, remembers what
   * each shown id and word stands for.
   *
   * @returns whether the output matches
   */
  learn(shown: string, output: string): boolean
  /**
   * Replaces the shown ids and words in a command with the real ids and words.
   *
   * @throws Error if the command contains a word that no earlier output has shown
   */
  fill(command: string): string
}

/** @param known maps shown words to real words that are known before any output */
export function createMeanings(known: Readonly<Record<string, string>> = {}): Meanings {
  const meanings = new Map(Object.entries(known))

  const compile = (shown: string) => {
    const captured: string[] = []
    const source = tidy(shown)
      .split('\n')
      .map((line) => (line === '…' ? '(?:.*\n)*?' : `${compileLine(line, captured)}\n`))
      .join('')
    return { pattern: new RegExp(`^${source}$`), captured }
  }
  const compileLine = (line: string, captured: string[]) => {
    let end = 0
    let source = ''
    for (const { 0: text, index, groups = {} } of line.matchAll(anyPlaceholder)) {
      source += quote(line.slice(end, index)) + compilePlaceholder(text, groups, captured)
      end = index + text.length
    }
    return source + quote(line.slice(end))
  }
  const compilePlaceholder = (text: string, groups: Record<string, string | undefined>, captured: string[]) => {
    if (groups.anything) return '.*?'
    if (groups.time) return placeholders.time.source
    if (groups.duration) return placeholders.duration.source
    if (groups.size) return placeholders.size.source
    if (groups.partition) return placeholders.partition.source
    if (groups.decimal) return placeholders.decimal.source
    const meaning = meanings.get(text)
    if (meaning !== undefined) return quote(meaning)
    const seen = captured.indexOf(text)
    if (seen !== -1) return `\\${seen + 1}`
    captured.push(text)
    return groups.id ? `(${placeholders.id.source})` : `(${quote(text.slice(0, -1))}\\S*)`
  }

  return {
    learn(shown, output) {
      const { pattern, captured } = compile(shown)
      const found = `${tidy(output)}\n`.match(pattern)
      if (!found) return false
      for (const [index, text] of captured.entries()) meanings.set(text, found[index + 1] as string)
      return true
    },
    fill(command) {
      let filled = command
      for (const [shown, real] of meanings) filled = filled.replaceAll(shown, real)
      if (filled.includes('…')) throw new Error(`No earlier output shows what … stands for in: ${filled}`)
      return filled
    },
  }
}

const quote = (text: string) => text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')

/** Removes white space at the end of each line and of the text, and the padding between columns. */
const tidy = (text: string) =>
  text
    .split('\n')
    .map((line) => line.trimEnd().replaceAll(/(?<=\S) {2,}/g, '  '))
    .join('\n')
    .trimEnd()

/** Removes the padding and the line of dashes from a psql table, so that tables can be compared. */
export const unaligned = (table: string): string =>
  table
    .split('\n')
    .filter((line) => !/^-+(\+-+)*$/.test(line.trim()))
    .map((line) =>
      line.includes('|')
        ? line
            .split('|')
            .map((cell) => cell.trim())
            .join('|')
        : line.trim(),
    )
    .join('\n')
