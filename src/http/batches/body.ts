import { ProblemError } from '../../errors.ts'
import { maxBatchItems } from '../../jobs/enqueue-batch.ts'
import type { TimeSlice } from '../../primitives/time-slice.ts'
import { parseJson } from '../protocol/json.ts'
import { splitArray, splitLines } from './split.ts'
import { BatchViolations } from './violations.ts'

export const ndjsonMediaType = 'application/x-ndjson'

/** A parsed batch, whose members have not been checked. */
export interface BatchBody {
  items: BatchItem[]
  /** The members beside the items: `onEnd` and `allowFailures`. */
  rest: unknown
}

export interface BatchItem {
  value: unknown
  /** The length of its text. */
  bytes: number
}

/** In a batch, the members of an item may take this many bytes besides its input. */
const maxOtherBytes = 32 * 1024

export interface ParseOptions {
  isNdjson: boolean
  /** The greatest size of an input, in bytes. */
  maxInputBytes: number
  pause: TimeSlice
}

/**
 * Parses the body of a batch. Parses each item by itself, and lets the event loop do other work between the items.
 *
 * @throws ProblemError malformed-json, invalid-body
 */
export async function parseBatch(given: Uint8Array, options: ParseOptions): Promise<BatchBody> {
  const { isNdjson, pause } = options
  const text = given.subarray(startsWithBom(given) ? bom.length : 0)
  const parser = new Parser(options)
  const { rest, texts } = isNdjson ? await splitNdjson(parser, text, pause) : await splitJson(parser, text, pause)
  if (texts.length === 0) throw refuseItems('must have at least one item')
  if (texts.length > maxBatchItems) throw refuseItems(`must have at most ${maxBatchItems} items`)
  const items: BatchItem[] = []
  for (const [index, item] of texts.entries()) {
    items.push({ value: parser.parseItem(item, index), bytes: item.length })
    const turn = pause()
    if (turn) await turn
  }
  parser.violations.throwIfAny()
  return { items, rest }
}

const refuseItems = (message: string) =>
  new ProblemError('invalid-body', undefined, { details: [{ pointer: '/items', keyword: 'items', message }] })

async function splitJson(parser: Parser, text: Uint8Array, pause: TimeSlice) {
  const { elements: texts, rest } = await splitArray(text, 'items', maxBatchItems, pause)
  if (texts && texts.length > maxBatchItems) return { texts, rest: undefined }
  const value = parser.parseRest(rest)
  if (!isObject(value)) {
    parser.violations.add({ pointer: '', keyword: 'type', message: 'must be object' })
  } else if (!texts) {
    parser.violations.add(
      'items' in value
        ? { pointer: '/items', keyword: 'type', message: 'must be array' }
        : { pointer: '', keyword: 'required', message: 'must have required properties items' },
    )
  }
  parser.violations.throwIfAny()
  const { items: _, ...others } = value as { items: unknown }
  return { texts: texts ?? [], rest: others }
}

async function splitNdjson(parser: Parser, text: Uint8Array, pause: TimeSlice) {
  // The first line may hold the other members.
  const [first, ...others] = await splitLines(text, maxBatchItems + 1, pause)
  if (!first) return { texts: [], rest: {} }
  if (!parser.holdsRest(first)) return { texts: [first, ...others], rest: {} }
  return { texts: others, rest: parser.parseRest(first) }
}

const isObject = (value: unknown): value is object =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

class Parser {
  readonly violations = new BatchViolations()
  readonly #maxBytes: number

  constructor({ maxInputBytes }: ParseOptions) {
    this.#maxBytes = maxInputBytes + maxOtherBytes
  }

  parseItem(text: Uint8Array, index: number): unknown {
    const pointer = `/items/${index}`
    try {
      if (text.length > this.#maxBytes) throw this.#tooLarge()
      return parseAlone(text, 1)
    } catch (error) {
      throwUnlessInvalid(error, pointer)
      this.violations.addAll(pointer, (error as ProblemError).details)
    }
  }

  /** Parses the members beside the items. */
  parseRest(text: Uint8Array): unknown {
    if (text.length > this.#maxBytes) throw this.#tooLarge(' without the items')
    return parseAlone(text, 2)
  }

  /** Returns whether a line is an object that is no item. */
  holdsRest(text: Uint8Array): boolean {
    if (text.length > this.#maxBytes) return false
    try {
      const value = JSON.parse(Buffer.from(text).toString())
      return isObject(value) && !Object.hasOwn(value, 'operation')
    } catch {
      return false
    }
  }

  #tooLarge(addition = ''): ProblemError {
    const message = `must have at most ${this.#maxBytes} bytes${addition}`
    return new ProblemError('invalid-body', undefined, { details: [{ pointer: '', keyword: 'maxBytes', message }] })
  }
}

const bom = [0xef, 0xbb, 0xbf] as const

const startsWithBom = (text: Uint8Array): boolean => bom.every((code, index) => text[index] === code)

/** Parses a part of the body. Only the body as a whole may start with a byte order mark. */
function parseAlone(text: Uint8Array, outerLevels: number): unknown {
  if (startsWithBom(text)) throw new ProblemError('malformed-json')
  return parseJson(text, outerLevels)
}

/** Throws an error that ends the parsing, with a pointer to the item that cannot be parsed. */
function throwUnlessInvalid(error: unknown, pointer: string): void {
  if (!(error instanceof ProblemError)) throw error
  if (error.code === 'invalid-body') return
  const given = error.details as readonly { pointer: string }[]
  const details =
    given.length > 0
      ? given.map((detail) => ({ ...detail, pointer: pointer + detail.pointer }))
      : [{ pointer, keyword: 'json', message: 'is not valid JSON' }]
  throw new ProblemError(error.code, error.message, { details, cause: error })
}
