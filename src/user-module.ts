import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { pathToFileURL } from 'node:url'
import {
  formatLocation,
  isUsageError,
  type Location,
  locate,
  locateSnippet,
  placeAt,
  showThrown,
} from './error-location.ts'
import { findUp } from './find-module.ts'
import { explainImport, filesBelow } from './import-errors.ts'

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

/** A module of the app. */
export interface UserModule {
  readonly [name: string]: unknown
}

/** After this time, a warning names the module that is still loading. */
const slowLoadMs = 10_000

/**
 * Loads a module of the app.
 *
 * @throws ModuleError that names the place of the mistake
 */
export async function importModule(file: string): Promise<UserModule> {
  if (!existsSync(file)) {
    const message = `There is no ${file}. Create it, or correct its path in the configuration.`
    throw new ModuleError(message, { isExplained: true, cause: undefined })
  }
  assertModuleType(file)
  try {
    return unwrap(await untilLoaded(file, import(pathToFileURL(file).href)))
  } catch (error) {
    throw error instanceof ModuleError ? error : moduleError(error, file)
  }
}

/** Before the error about this mistake, Node.js prints a warning that says the same. */
function assertModuleType(file: string): void {
  const manifest = findUp(dirname(file), 'package.json')
  if (!manifest || !/\.[jt]s$/.test(file)) return
  if (!/"type"\s{0,9}:\s{0,9}"commonjs"/.test(readFileSync(manifest, 'utf8'))) return
  const source = readFileSync(file, 'utf8')
  const statement = /^([ \t]{0,20})(?:import\s[^=\n]{0,500}['"]|export\s)/m.exec(source)
  if (!statement) return
  const index = statement.index + (statement[1] as string).length
  const place = formatLocation(placeAt(file, source, index))
  const message = `${place}: this is an ES module: set "type": "module" in ${manifest}`
  throw new ModuleError(message, { isExplained: true, cause: undefined })
}

/** A compiler to CommonJS makes the default export a member of what Node.js takes for the default export. */
function unwrap(module: UserModule): UserModule {
  const inner = module.default as UserModule | undefined
  return inner?.__esModule === true && 'default' in inner ? inner : module
}

/** Rejects when Node.js has nothing left to do while the module is still loading: it would exit without a message. */
async function untilLoaded(file: string, loading: Promise<UserModule>): Promise<UserModule> {
  const describe = () => {
    const place = onlyPlaceOf(/^(?:(?:export\s)?(?:const|let|var)\s[^\n;]{0,500}=\s{0,9})?await\b/gm, file)
    return formatLocation(place ?? { file })
  }
  const { promise: stalled, reject } = Promise.withResolvers<never>()
  const onIdle = () => {
    const message = `${describe()}: loading never ends. A promise that the module or one of its imports awaits is never settled.`
    reject(new ModuleError(message, { isExplained: true, cause: undefined }))
  }
  const warn = () =>
    console.error(`warning: ${describe()}: still loading after ${slowLoadMs / 1000} s, because of an await.`)
  const timer = setTimeout(warn, slowLoadMs).unref()
  process.once('beforeExit', onIdle)
  try {
    return await Promise.race([loading, stalled])
  } finally {
    clearTimeout(timer)
    process.off('beforeExit', onIdle)
  }
}

function moduleError(cause: unknown, file: string): ModuleError {
  const problem = explainImport(cause, file)
  if (problem) {
    return new ModuleError(`${formatLocation(problem.location)}: ${problem.message}`, { isExplained: true, cause })
  }
  const isError = cause instanceof Error
  const location = locate(cause) ??
    locateByNode(cause, file) ??
    // A thrown value that is no error has no stack.
    (isError ? undefined : onlyPlaceOf(/(?<![\w$.])throw\s(?!\s{0,9}new\s)/g, file)) ?? { file }
  const explanation = explainSyntax(cause, location)
  const text = isError ? messageOf(cause) : `the module threw ${showThrown(cause)}`
  const isExplained = explanation !== undefined || isUsageError(cause)
  return new ModuleError(`${formatLocation(location)}: ${text}${explanation ?? hintFor(cause, location)}`, {
    isExplained,
    cause,
  })
}

/** The message about a JSON file begins with its path. */
const messageOf = ({ message }: Error) => message.replace(/^\/[^\n]{1,4000}\.json: /, '')

/** Finds a pattern in the files that a module loads. Returns undefined if it occurs in several places. */
function onlyPlaceOf(pattern: RegExp, file: string): Location | undefined {
  const places = filesBelow(file).flatMap((below) => {
    const source = readFileSync(below, 'utf8')
    return Array.from(source.matchAll(pattern), ({ index }) => placeAt(below, source, index))
  })
  return places.length === 1 ? places[0] : undefined
}

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

/** Explains a mistake in the setup of the app. */
function explainSyntax(error: unknown, { file }: Location): string | undefined {
  if (!(error instanceof SyntaxError)) return undefined
  if (
    !/^Cannot use (?:import statement|'import\.meta') outside a module|^Unexpected token 'export'/.test(error.message)
  ) {
    return undefined
  }
  const manifest = findUp(dirname(file), 'package.json')
  return `. ${file} is an ES module: set "type": "module" in ${manifest ?? 'its package.json'}`
}

/** Says how TypeScript must be written for Node.js. */
function hintFor(error: unknown, { file }: Location): string {
  const { code, message } = Object(error) as { code?: string; message?: string }
  if (code === 'ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX') {
    return '. Node.js only removes types: write this in JavaScript, or compile the app and start the compiled files.'
  }
  const name = /does not provide an export named '([^']+)'$/.exec(`${message}`)?.[1]
  if (!name || name === 'default' || !/\.[cm]?ts$/.test(file)) return ''
  return `. If ${name} is a type, write: import { type ${name} }`
}
