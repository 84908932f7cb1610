import type { TimeSlice } from '../../primitives/time-slice.ts'

/** A JSON text, of which the elements of one member have been taken out. */
export interface SplitJson {
  /** The texts of the elements. Undefined if the value is no object with such an array. */
  elements: Uint8Array[] | undefined
  /** The text without the elements: the array is empty. */
  rest: Uint8Array
}

const byte = {
  ...{ newline: 0x0a, quote: 0x22, comma: 0x2c, colon: 0x3a, backslash: 0x5c },
  ...{ openArray: 0x5b, closeArray: 0x5d, openObject: 0x7b, closeObject: 0x7d },
} as const

/** After this number of bytes or lines, other work may run. */
const sliceSize = 64 * 1024

/**
 * Takes the elements of an array out of a JSON object, so that they can be parsed one by one. Does not check the
 * syntax: the text is valid JSON if the rest and all elements are.
 *
 * @param member the name of the array
 * @param maxElements the elements after this number of elements, plus one, are not split
 */
export async function splitArray(
  text: Uint8Array,
  member: string,
  maxElements: number,
  pause: TimeSlice,
): Promise<SplitJson> {
  const splitter = new Splitter(text, member, maxElements)
  while (!splitter.isDone) {
    splitter.advance(sliceSize)
    await pause()
  }
  return splitter.result()
}

/** Reads a text once, in steps. */
class Splitter {
  readonly #text: Uint8Array
  readonly #member: string
  readonly #maxElements: number
  #position = 0
  #depth = 0
  #isInString = false
  #stringStart = 0
  /** The last string directly in the object: the name of a member, or a value. */
  #lastString: Uint8Array = new Uint8Array()
  #isValue = false
  #elements: Uint8Array[] | undefined
  #arrayStart = 0
  #elementStart = 0
  /** The position of the bracket that closes the array. */
  #arrayEnd: number | undefined

  constructor(text: Uint8Array, member: string, maxElements: number) {
    this.#text = text
    this.#member = JSON.stringify(member)
    this.#maxElements = maxElements
  }

  get isDone(): boolean {
    const hasTooMany = (this.#elements?.length ?? 0) > this.#maxElements
    return this.#position >= this.#text.length || this.#arrayEnd !== undefined || hasTooMany
  }

  advance(steps: number): void {
    for (let step = 0; step < steps && !this.isDone; step++) {
      if (this.#isInString) this.#passString()
      else this.#pass(this.#text[this.#position++] as number)
    }
  }

  result(): SplitJson {
    if (!this.#elements) return { elements: undefined, rest: this.#text }
    const after = this.#text.subarray(this.#arrayEnd ?? this.#text.length)
    const rest = Buffer.concat([this.#text.subarray(0, this.#arrayStart), after])
    // An array without elements contains at most white space.
    const isEmpty = this.#elements.length === 1 && isBlank(this.#elements[0] as Uint8Array)
    return { elements: isEmpty ? [] : this.#elements, rest }
  }

  #pass(code: number): void {
    switch (code) {
      case byte.quote:
        this.#isInString = true
        this.#stringStart = this.#position - 1
        return
      case byte.openObject:
      case byte.openArray:
        if (code === byte.openArray && this.#depth === 1 && this.#isWantedMember()) this.#beginArray()
        this.#depth += 1
        return
      case byte.closeObject:
      case byte.closeArray:
        this.#depth -= 1
        if (this.#elements && this.#depth === 1) {
          this.#endElement()
          this.#arrayEnd = this.#position - 1
        }
        return
      case byte.comma:
        this.#isValue = false
        if (this.#elements && this.#depth === 2) this.#endElement()
        return
      case byte.colon:
        if (this.#depth === 1) this.#isValue = true
    }
  }

  #passString(): void {
    const end = this.#text.indexOf(byte.quote, this.#position)
    if (end < 0) {
      this.#position = this.#text.length
      return
    }
    this.#position = end + 1
    this.#isInString = isEscaped(this.#text, end)
    if (this.#depth === 1 && !this.#isInString) this.#lastString = this.#text.subarray(this.#stringStart, end + 1)
  }

  #isWantedMember(): boolean {
    return !this.#elements && this.#isValue && isSameString(this.#lastString, this.#member)
  }

  #beginArray(): void {
    this.#elements = []
    this.#arrayStart = this.#position
    this.#elementStart = this.#position
  }

  #endElement(): void {
    this.#elements?.push(this.#text.subarray(this.#elementStart, this.#position - 1))
    this.#elementStart = this.#position
  }
}

/** Returns whether an odd number of backslashes precede a quote. */
function isEscaped(text: Uint8Array, quote: number): boolean {
  let start = quote
  while (text[start - 1] === byte.backslash) start -= 1
  return (quote - start) % 2 === 1
}

/** A name with escapes has at most six characters for each character. */
const maxEscapedLength = 6

function isSameString(given: Uint8Array, wanted: string): boolean {
  if (given.length > wanted.length * maxEscapedLength) return false
  const text = Buffer.from(given).toString()
  if (text === wanted) return true
  try {
    return text.includes('\\') && JSON.parse(text) === JSON.parse(wanted)
  } catch {
    return false
  }
}

/**
 * Splits a text into its lines, without blank lines.
 *
 * @param maxLines the lines after this number of lines, plus one, are left out
 */
export async function splitLines(text: Uint8Array, maxLines: number, pause: TimeSlice): Promise<Uint8Array[]> {
  const lines: Uint8Array[] = []
  for (let start = 0, count = 1; start < text.length && lines.length <= maxLines; count++) {
    const newline = text.indexOf(byte.newline, start)
    const end = newline < 0 ? text.length : newline
    const line = text.subarray(start, end)
    if (!isBlank(line)) lines.push(line)
    start = end + 1
    if (count % 1_000 === 0) await pause()
  }
  return lines
}

/** The white space of JSON. */
function isBlank(text: Uint8Array): boolean {
  for (const code of text) if (code !== 0x20 && code !== 0x09 && code !== 0x0a && code !== 0x0d) return false
  return true
}
