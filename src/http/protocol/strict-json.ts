import { decimalOf } from './decimal.ts'
import { type Level, pointerTo } from './json-level.ts'

/** Ordinary bodies have fewer levels. Recursive code can process this many levels without a stack overflow. */
const maxDepth = 100

/**
 * Ordinary bodies have fewer objects, arrays and members of objects in total. Each costs time wherever the body is
 * processed: a body of 1 MiB that has many takes ten times as long as another.
 */
const maxParts = 100_000
const minPartLength = 10

const maxViolations = 100
/** Above this total length of the pointers, no more violations are reported. A body can have very long names. */
const maxPointersLength = 64 * 1024

/** A number of at most this many characters, without an exponent, is the same when it is read as a double. */
const maxShortNumberLength = 15

/** A value or a member that must not be stored. The pointer (RFC 6901) leads to it. */
export interface JsonViolation {
  pointer: string
  /** `storable`: Postgres rejects it. `exact` and `unique`: it would be altered silently. */
  keyword: 'storable' | 'exact' | 'unique' | 'prototype'
  message: string
}

/**
 * Finds at most 100 values and members that `JSON.parse` or Postgres would alter or reject:
 * - members with a name that the object already has, because `JSON.parse` keeps only the last of them
 * - numbers whose value changes when they are read as a double and written again, for example 9007199254740993 or 1e400
 * - `\u0000` and lone surrogates (PostgreSQL manual, 8.14)
 * - members that can change a prototype when an app copies the object
 * - values that are nested too deeply, or that have too many parts
 *
 * @param text valid JSON in well-formed Unicode. `JSON.parse` must have accepted it, so this function checks no syntax.
 * @param outerLevels the objects and arrays around the values whose depth counts
 * @param maxLength the maximum length of such texts; a text that may be longer than usual may also have more parts
 */
export const findJsonViolations = (text: string, outerLevels = 0, maxLength = 0): JsonViolation[] =>
  new Scanner(text, maxDepth + outerLevels, Math.max(maxParts, Math.floor(maxLength / minPartLength))).scan()

/** Reads a text once, and decodes only what it must compare. So it costs less than `JSON.parse`. */
class Scanner {
  readonly #text: string
  readonly #maxDepth: number
  readonly #violations: JsonViolation[] = []
  #pointersLength = 0
  #level: Level | undefined
  #depth = 0
  /** How many objects, arrays and members there may still be. */
  #partsLeft: number
  readonly #maxParts: number
  /** Whether the next string is the name of a member. */
  #expectsName = false
  /** The position of the first backslash that has not been passed. */
  #nextBackslash = -1

  constructor(text: string, maxDepth: number, maxParts: number) {
    this.#text = text
    this.#maxDepth = maxDepth
    this.#maxParts = maxParts
    this.#partsLeft = maxParts
  }

  scan(): JsonViolation[] {
    const text = this.#text
    for (let position = 0; position < text.length; ) {
      const code = text.charCodeAt(position)
      if (code === char.quote) position = this.#passString(position)
      else if (code === char.minus || isDigit(code)) position = this.#passNumber(position)
      else {
        if (code !== char.colon && code !== char.space) this.#passPunctuation(code)
        position += 1
      }
      if (this.#isFull || this.#depth > this.#maxDepth) break
      if (this.#partsLeft < 0) {
        this.#report('storable', `must be within ${this.#maxParts} objects, arrays and members of objects in total`)
        break
      }
    }
    return this.#violations
  }

  get #isFull(): boolean {
    return this.#violations.length >= maxViolations || this.#pointersLength > maxPointersLength
  }

  #passPunctuation(code: number): void {
    switch (code) {
      case char.openObject:
      case char.openArray:
        this.#open(code === char.openObject ? new Set() : undefined)
        break
      case char.closeObject:
      case char.closeArray:
        this.#level = this.#level?.parent
        this.#depth -= 1
        this.#expectsName = false
        break
      case char.comma:
        if (typeof this.#level?.current === 'number') this.#level.current += 1
        else this.#expectsName = true
    }
  }

  #open(names: Set<string> | undefined): void {
    this.#depth += 1
    this.#partsLeft -= 1
    if (this.#depth > this.#maxDepth) this.#report('storable', `must not be nested deeper than ${maxDepth}`)
    this.#level = { parent: this.#level, names, current: names ? '' : 0 }
    this.#expectsName = names !== undefined
  }

  /** @returns the position after the string */
  #passString(start: number): number {
    const text = this.#text
    let end = text.indexOf('"', start + 1)
    let hasEscape = false
    for (let slash = this.#backslashFrom(start + 1); slash < end; slash = this.#backslashFrom(slash + 2)) {
      hasEscape = true
      if (end < slash + 2) end = text.indexOf('"', slash + 2)
    }
    if (this.#expectsName || hasEscape) {
      // Only an escape can contain U+0000 or a lone surrogate, because the text is well-formed.
      const value = hasEscape ? (JSON.parse(text.slice(start, end + 1)) as string) : text.slice(start + 1, end)
      const message = hasEscape ? whyUnstorable(value) : undefined
      if (this.#expectsName) this.#passName(value, message)
      else if (message) this.#report('storable', message)
    }
    return end + 1
  }

  #passName(name: string, message: string | undefined): void {
    const level = this.#level as Level & { names: Set<string> }
    this.#expectsName = false
    this.#partsLeft -= 1
    if (message) this.#report('storable', `has a member whose name ${message}`, level.parent)
    level.current = name
    const isPrototype = name === 'prototype' && level.parent?.current === 'constructor'
    if (name === '__proto__' || isPrototype) this.#report('prototype', 'must not have this name')
    if (level.names.has(name)) this.#report('unique', 'must not appear twice in an object')
    level.names.add(name)
  }

  /** @returns the position after the number */
  #passNumber(start: number): number {
    const text = this.#text
    let end = start + 1
    let hasExponent = false
    for (let code = text.charCodeAt(end); isInNumber(code); code = text.charCodeAt(end)) {
      hasExponent ||= code === char.exponent || code === char.capitalExponent
      end += 1
    }
    if (!hasExponent && end - start <= maxShortNumberLength) return end
    const literal = text.slice(start, end)
    const value = Number(literal)
    if (!Number.isFinite(value)) this.#report('storable', 'must be a number that fits a double')
    else if (decimalOf(literal) !== decimalOf(String(value))) {
      this.#report('exact', `would be stored as ${value}, which is another number; send it as a string`)
    }
    return end
  }

  #backslashFrom(position: number): number {
    if (this.#nextBackslash < position) {
      const found = this.#text.indexOf('\\', position)
      this.#nextBackslash = found < 0 ? this.#text.length : found
    }
    return this.#nextBackslash
  }

  #report(keyword: JsonViolation['keyword'], message: string, level = this.#level): void {
    const pointer = pointerTo(level)
    this.#pointersLength += pointer.length
    this.#violations.push({ pointer, keyword, message })
  }
}

const char = {
  quote: 0x22,
  comma: 0x2c,
  minus: 0x2d,
  plus: 0x2b,
  point: 0x2e,
  colon: 0x3a,
  space: 0x20,
  capitalExponent: 0x45,
  exponent: 0x65,
  openArray: 0x5b,
  closeArray: 0x5d,
  openObject: 0x7b,
  closeObject: 0x7d,
} as const

const isDigit = (code: number) => code >= 0x30 && code <= 0x39

const isInNumber = (code: number) =>
  isDigit(code) ||
  code === char.point ||
  code === char.exponent ||
  code === char.capitalExponent ||
  code === char.minus ||
  code === char.plus

function whyUnstorable(value: string): string | undefined {
  if (value.includes('\0')) return 'must not contain U+0000'
  return value.isWellFormed() ? undefined : 'must not contain lone surrogates'
}
