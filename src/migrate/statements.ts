/** A statement of a SQL text. */
export interface Statement {
  text: string
  /** Where the statement starts in the whole text, as an index. */
  start: number
}

const blank = /\s+/y
const word = /[\p{L}_][\p{L}\p{N}_$]*/uy
const escapeString = /[eE]'(?:[^'\\]|\\.|'')*'?/sy
const dollarQuote = /\$(?:[\p{L}_][\p{L}\p{N}_]*)?\$/uy

function matchAt(pattern: RegExp, text: string, index: number): string | undefined {
  pattern.lastIndex = index
  return pattern.exec(text)?.[0]
}

/** Returns the index after the next occurrence of `end`, or the end of the text. */
function indexAfter(text: string, end: string, from: number): number {
  const found = text.indexOf(end, from)
  return found === -1 ? text.length : found + end.length
}

function endOfBlockComment(text: string, start: number): number {
  let depth = 0
  for (let index = start; index < text.length; index++) {
    if (text.startsWith('/*', index)) depth++
    else if (text.startsWith('*/', index)) depth--
    else continue
    index++
    if (depth === 0) return index + 1
  }
  return text.length
}

/** Returns the end of the blanks or the comment that starts here, or `start` if neither does. */
function endOfSpace(text: string, start: number): number {
  if (text.startsWith('--', start)) return indexAfter(text, '\n', start)
  if (text.startsWith('/*', start)) return endOfBlockComment(text, start)
  return start + (matchAt(blank, text, start)?.length ?? 0)
}

/** Returns the end of the token that starts here (PostgreSQL manual, section 4.1). */
function endOfToken(text: string, start: number): number {
  const char = text[start]
  // A doubled quote in a string is the same as two strings side by side.
  if (char === "'" || char === '"') return indexAfter(text, char, start + 1)
  const tag = matchAt(dollarQuote, text, start)
  if (tag) return indexAfter(text, tag, start + tag.length)
  const token = matchAt(escapeString, text, start) ?? matchAt(word, text, start)
  return start + (token?.length ?? 1)
}

/**
 * Splits a SQL text into its statements, without the comments between them. Postgres reports the failed statement of a
 * text only by its position, and not for every error. It also runs a text of several statements as one transaction.
 */
export function splitStatements(text: string): Statement[] {
  const statements: Statement[] = []
  let start: number | undefined
  let end = 0
  let parentheses = 0
  /** How many `begin atomic`, `begin` and `case` of a function body are open. Such a body contains semicolons. */
  let blocks = 0
  let previous = ''
  for (let index = 0; index < text.length; ) {
    const next = endOfSpace(text, index)
    if (next > index) {
      index = next
      continue
    }
    const tokenEnd = endOfToken(text, index)
    const token = text.slice(index, tokenEnd).toLowerCase()
    if (token === ';' && parentheses <= 0 && blocks === 0) {
      if (start !== undefined) statements.push({ text: text.slice(start, end), start })
      start = undefined
      parentheses = 0
    } else {
      start ??= index
      end = tokenEnd
      if (token === '(') parentheses++
      else if (token === ')') parentheses--
      else if (token === 'atomic' && previous === 'begin') blocks = 1
      else if (blocks > 0 && (token === 'begin' || token === 'case')) blocks++
      else if (blocks > 0 && token === 'end') blocks--
    }
    previous = token
    index = tokenEnd
  }
  if (start !== undefined) statements.push({ text: text.slice(start, end), start })
  return statements
}

/**
 * Returns the line and the column of a place in a text, from 1.
 *
 * @param characters how many characters after `start` the place is. Postgres counts characters, not UTF-16 units.
 */
export function placeIn(text: string, start: number, characters = 0): { line: number; column: number } {
  const before = text.slice(0, start) + Array.from(text.slice(start)).slice(0, characters).join('')
  const lineStart = before.lastIndexOf('\n') + 1
  return { line: before.split('\n').length, column: Array.from(before.slice(lineStart)).length + 1 }
}
