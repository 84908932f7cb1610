import { fileURLToPath, pathToFileURL } from 'node:url'
import { inspect } from 'node:util'

/** A place in a file. */
export interface Location {
  file: string
  line?: number | undefined
  column?: number | undefined
}

interface Frame extends Location {
  isOurs: boolean
}

/** Formats a place as `file:line:column`, which terminals and editors turn into a link. */
export const formatLocation = ({ file, line, column }: Location): string =>
  [file, line, column].filter((part) => part !== undefined).join(':')

/** Returns the place of a position in a text. */
export function placeAt(file: string, text: string, index: number): Location {
  const before = text.slice(0, index).split('\n')
  return { file, line: before.length, column: (before.at(-1) as string).length + 1 }
}

const ourDirectory = new URL('.', import.meta.url).href
// With --enable-source-maps, the frames of our compiled files are in the sources.
const roots = ourDirectory.endsWith('/dist/src/') ? ['..', '../..'] : ['..']
const ourFiles = roots.flatMap((root) =>
  ['src/', 'worker/'].map((part) => new URL(`${root}/${part}`, ourDirectory).href),
)

/** Returns the places of the frames of a stack, without those of Node.js. */
function framesOf(error: unknown): Frame[] {
  const stack = error instanceof Error ? `${error.stack}` : ''
  return stack.split('\n').flatMap((line) => {
    const [, place, row, column] = /^ {4}at (?:.{0,500} \()?(file:\/\/\/[^)]+|\/[^)]+):(\d+):(\d+)\)?$/.exec(line) ?? []
    if (place === undefined) return []
    const url = place.startsWith('/') ? pathToFileURL(place).href : place
    const isOurs = ourFiles.some((directory) => url.startsWith(directory))
    return [{ file: toPath(place), line: Number(row), column: Number(column), isOurs }]
  })
}

const toPath = (place: string) => (place.startsWith('file:') ? fileURLToPath(place.split('?', 1)[0] as string) : place)

/** Returns whether a function of this package has thrown the error because of a wrong argument. */
export const isUsageError = (error: unknown): boolean =>
  error instanceof TypeError && framesOf(error)[0]?.isOurs === true

/** How many levels of causes are searched and printed. */
const maxCauses = 5

/** Returns the errors that caused an error: its cause, or the errors of an AggregateError. */
function causesOf(error: unknown): unknown[] {
  const { cause, errors } = Object(error) as { cause?: unknown; errors?: unknown }
  return [...(Array.isArray(errors) ? errors : []), ...(cause === undefined ? [] : [cause])]
}

/** Finds the place in the app's own files where an error or its cause comes from. */
export function locate(error: unknown, causes = maxCauses): Location | undefined {
  const isOfApp = ({ file, isOurs }: Frame) => !isOurs && !file.includes('/node_modules/')
  const own = locateSnippet(`${Object(error).stack}`) ?? locateJson(error) ?? framesOf(error).find(isOfApp)
  if (own || causes === 0) return own
  for (const cause of causesOf(error)) {
    const location = locate(cause, causes - 1)
    if (location) return location
  }
  return undefined
}

const maxSnippetLines = 8

/** Reads the place from the lines that Node.js puts before a syntax error: file, source and a caret below it. */
export function locateSnippet(text: string): Location | undefined {
  const lines = text.split('\n')
  const start = lines.findIndex((line) => /^(?:file:\/\/\/|\/).*:\d+$/.test(line))
  if (start < 0) return undefined
  const [, place = '', line] = /^(.*):(\d+)$/.exec(lines[start] as string) ?? []
  const caret = lines.slice(start, start + maxSnippetLines).find((line) => /^\s*\^+\s*$/.test(line))
  // There is no caret for a mistake at the end of the file.
  const column = caret ? caret.indexOf('^') + 1 : (lines[start + 1] ?? '').length + 1
  return { file: toPath(place), line: Number(line), column }
}

/** Reads the place from the message about an imported JSON file. */
function locateJson(error: unknown): Location | undefined {
  if (!(error instanceof SyntaxError)) return undefined
  const file = /^(\/[^\n]{1,4000}\.json): /.exec(error.message)?.[1]
  const [, line, column] = /\(line (\d+) column (\d+)\)$/.exec(error.message) ?? []
  return file ? { file, line: line ? Number(line) : undefined, column: column ? Number(column) : undefined } : undefined
}

/** Formats a thrown value that is no error. */
export const showThrown = (value: unknown): string =>
  typeof value === 'string' ? value : inspect(value, { depth: 1, breakLength: Number.POSITIVE_INFINITY })

/** Formats the stacks of an error and of what caused it, one below the other. */
export function formatStacks(error: unknown, causes = maxCauses): string[] {
  if (!(error instanceof Error)) return []
  const inner = causes > 0 ? causesOf(error) : []
  const stacks = inner.flatMap((cause) => {
    const [first = `The value ${showThrown(cause)}`, ...more] = formatStacks(cause, causes - 1)
    return [`Caused by: ${first}`, ...more]
  })
  return [`${error.stack}`, ...stacks]
}
