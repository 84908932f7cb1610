/** Parts of a shown output that differ each time it is produced. */
const placeholders = {
  /** An id: the same shown id is the same real id on the whole page. */
  id: /[\da-f]{8}-[\da-f]{4}-[\da-f]{4}-[\da-f]{4}-[\da-f]{12}/,
  /** ISO 8601, or as psql shows it. */
  time: /\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00)/,
  /** An interval of Postgres. */
  duration: /\d\d:\d\d:\d\d(?:\.\d+)?/,
  /** A word with an unknown end, for example `whsec_…`: the same on the whole page, too. */
  word: /(?<=^|[\s=])[\w:/]+…(?=\s|$)/,
  /** Anything within a line. */
  anything: /…/,
} as const

const anyPlaceholder = new RegExp(
  Object.entries(placeholders)
    .map(([name, pattern]) => `(?<${name}>${pattern.source})`)
    .join('|'),
  'gm',
)

/** What the shown ids and words of a page stand for. */
export interface Meanings {
  /**
   * Compares an output with the one shown: `…` on a line of its own is any number of lines, within a line any text. Ids,
   * times and words like `whsec_…` match others of their kind. Remembers what ids and words stand for if the output matches.
   */
  learn(shown: string, output: string): boolean
  /**
   * Replaces the shown ids and words of a command by the real ones.
   *
   * @throws Error when the command contains a word whose meaning is not known
   */
  fill(command: string): string
}

/** @param known what some words stand for from the start */
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
      if (filled.includes('…')) throw new Error(`It is not known what … stands for in: ${filled}`)
      return filled
    },
  }
}

const quote = (text: string) => text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')

/** Removes the white space at the ends of lines. */
const tidy = (text: string) =>
  text
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n')
    .trimEnd()

/** Rows as psql shows them, without the alignment and the rule below the header, so that they can be compared. */
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
