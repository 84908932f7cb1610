import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { dirname, extname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

/**
 * Thrown when a module of the app cannot be loaded. The message names the file, the line and the column. The cause is
 * the error of Node.js or of the module.
 */
export class ModuleError extends Error {
  override name = 'ModuleError'
  /** The message says what to do, so the stack would not help. */
  readonly isExplained: boolean

  constructor(message: string, options: { isExplained: boolean; cause: unknown }) {
    super(message, { cause: options.cause })
    this.isExplained = options.isExplained
  }
}

/** A place in a file. */
interface Location {
  file: string
  line?: number | undefined
  column?: number | undefined
}

/** The extensions of a module before and after it is compiled. */
const otherExtensions: Readonly<Record<string, readonly string[]>> = {
  '.ts': ['.js'],
  '.mts': ['.mjs'],
  '.cts': ['.cjs'],
  '.js': ['.ts'],
  '.mjs': ['.mts'],
  '.cjs': ['.cts'],
  '': ['.ts', '.js', '.mts', '.mjs'],
}

/** Finds a module. When the app is compiled, `handlers.ts` is `handlers.js`. Returns undefined when there is none. */
export function findModule(path: string): string | undefined {
  const extension = extname(path)
  const base = path.slice(0, path.length - extension.length)
  const others = (otherExtensions[extension] ?? []).map((other) => base + other)
  return [path, ...others].find((file) => statSync(file, { throwIfNoEntry: false })?.isFile())
}

/**
 * Loads a module of the app.
 *
 * @throws ModuleError that names the place of the mistake
 */
export async function importModule(file: string): Promise<{ readonly [name: string]: unknown }> {
  if (!existsSync(file)) {
    const message = `There is no ${file}. Create it, or correct its path in the configuration.`
    throw new ModuleError(message, { isExplained: true, cause: undefined })
  }
  try {
    return await import(pathToFileURL(file).href)
  } catch (error) {
    const location = locateImport(error, file) ?? locate(error) ?? locateByNode(error, file) ?? { file }
    const advice = adviceFor(error, location)
    const isExplained = advice !== undefined || isUsageError(error)
    throw new ModuleError(`${formatLocation(location)}: ${textOf(error)}${advice ?? ''}`, { isExplained, cause: error })
  }
}

const textOf = (error: unknown) => (error instanceof Error ? error.message : `the module threw ${String(error)}`)

/** Formats a place as `file:line:column`, which terminals and editors turn into a link. */
export const formatLocation = ({ file, line, column }: Location): string =>
  [file, line, column].filter((part) => part !== undefined).join(':')

const ourFiles = ['.', '../worker/'].map((directory) => new URL(directory, import.meta.url).href)

/** Returns the places of the frames of a stack, without those of Node.js. */
function framesOf(error: unknown): (Location & { isOurs: boolean })[] {
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

/** Finds the place in the app's own files where an error comes from. */
export function locate(error: unknown): Location | undefined {
  const isOfApp = ({ file, isOurs }: Location & { isOurs: boolean }) => !isOurs && !file.includes('/node_modules/')
  return locateSnippet(`${(error as Error | undefined)?.stack}`) ?? framesOf(error).find(isOfApp)
}

/** Reads the place from the lines that Node.js puts before a syntax error: the file, the source and a caret below it. */
function locateSnippet(text: string): Location | undefined {
  const lines = text.split('\n')
  const start = lines.findIndex((line) => /^(?:file:\/\/\/|\/).*:\d+$/.test(line))
  if (start < 0) return undefined
  const [, place = '', line] = /^(.*):(\d+)$/.exec(lines[start] as string) ?? []
  const caret = lines.slice(start, start + maxSnippetLines).find((line) => /^\s*\^+\s*$/.test(line))
  // There is no caret for a mistake at the end of the file.
  const column = caret ? caret.indexOf('^') + 1 : (lines[start + 1] ?? '').length + 1
  return { file: toPath(place), line: Number(line), column }
}

const maxSnippetLines = 8

/**
 * Lets another process load the module, because only what Node.js prints about an uncaught syntax error in JavaScript
 * names the place. No module runs twice: Node.js parses all modules before it runs the first one.
 */
function locateByNode(error: unknown, file: string): Location | undefined {
  if (!(error instanceof SyntaxError)) return undefined
  const code = 'await import(process.argv[1])'
  const args = [...process.execArgv, '--input-type=module', '--eval', code, pathToFileURL(file).href]
  return locateSnippet(spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 10_000 }).stderr)
}

/** Finds the import of a module that does not exist. */
function locateImport(error: unknown, file: string): Location | undefined {
  const { code, message = '', url } = Object(error) as { code?: string; message?: string; url?: string }
  if (!['ERR_MODULE_NOT_FOUND', 'ERR_PACKAGE_PATH_NOT_EXPORTED'].includes(`${code}`)) return undefined
  const [, importer = file] = message.split(' imported from ')
  const missing = /^Cannot find package '([^']+)'/.exec(message)?.[1]
  const source = existsSync(importer) ? readFileSync(importer, 'utf8') : ''
  for (const { 1: specifier = '', index } of source.matchAll(/(?<=['"])([^'"\n]{1,500})(?=['"])/g)) {
    const target = specifier.startsWith('.') ? new URL(specifier, pathToFileURL(importer)).href : specifier
    const isMissing = missing ? target === missing || target.startsWith(`${missing}/`) : target === url
    if (!isMissing) continue
    const before = source.slice(0, index).split('\n')
    return { file: importer, line: before.length, column: (before.at(-1) as string).length + 1 }
  }
  return { file: importer }
}

/** Says what to do about a mistake in the setup of the app. */
function adviceFor(error: unknown, { file }: Location): string | undefined {
  const { code, message } = Object(error) as { code?: string; message?: string }
  const missing = /^Cannot find package '([^']+)'/.exec(`${message}`)?.[1]
  if (missing) return `. Install it: npm install ${missing}`
  if (code === 'ERR_MODULE_NOT_FOUND') return '. Correct the path of the import.'
  if (!(error instanceof SyntaxError)) return undefined
  if (
    !/^Cannot use (?:import statement|'import\.meta') outside a module|^Unexpected token 'export'/.test(error.message)
  ) {
    return undefined
  }
  const manifest = findUp(dirname(file), 'package.json')
  return `. ${file} is an ES module: set "type": "module" in ${manifest ?? 'its package.json'}`
}

/** Finds a file or directory in a directory or in one of its parents. */
export function findUp(directory: string, name: string): string | undefined {
  const path = join(directory, name)
  if (existsSync(path)) return path
  const parent = dirname(directory)
  return parent === directory ? undefined : findUp(parent, name)
}
