import { existsSync, readFileSync } from 'node:fs'
import { dirname, relative } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { type Location, placeAt } from './error-location.ts'
import { findModule } from './find-module.ts'

/** What to do about the errors of import statements that Node.js cannot resolve or load, by error code. */
const advice: Readonly<Record<string, string>> = {
  ERR_MODULE_NOT_FOUND: 'Correct the path of the import.',
  ERR_UNSUPPORTED_DIR_IMPORT: "Import a file of the directory, for example './index.js'.",
  ERR_PACKAGE_PATH_NOT_EXPORTED: 'Import a path that the package exports.',
  ERR_PACKAGE_IMPORT_NOT_DEFINED: 'Define it as a member of "imports" in package.json.',
  ERR_IMPORT_ATTRIBUTE_MISSING: "Add it to the import: with { type: 'json' }",
  ERR_UNKNOWN_FILE_EXTENSION: 'Node.js loads only files that end with .js, .mjs, .cjs, .ts, .mts, .cts or .json.',
  ERR_UNKNOWN_BUILTIN_MODULE: 'Correct the name of the module.',
  ERR_UNSUPPORTED_ESM_URL_SCHEME: 'Install the package, and import it by its name.',
  ERR_INVALID_MODULE_SPECIFIER: 'Correct the import.',
}

/** Describes an import statement that Node.js cannot resolve or load. */
export interface ImportProblem {
  location: Location
  /** What is wrong, and what to do. */
  message: string
}

/**
 * Explains an error about an import statement. Returns undefined for any other error.
 *
 * @param file the module that was loaded first
 */
export function explainImport(error: unknown, file: string): ImportProblem | undefined {
  const { code, message: text } = Object(error) as { code?: string; message?: string }
  const known = advice[`${code}`]
  if (known === undefined || text === undefined) return undefined
  // On the next line, Node.js suggests another path in some cases.
  const [message = ''] = text.split('\n', 1)
  const [problem = '', importer] = message.split(' imported from ')
  const isNamed = ({ specifier, from }: Import) => isNamedBy(problem, specifier, from)
  const found = (importer ? importsOf(importer) : importsBelow(file)).find(isNamed)
  const location = found?.location ?? { file: importer ?? file }
  return { location, message: `${message}. ${adviceFor(problem, found) ?? known}` }
}

function adviceFor(problem: string, found: Import | undefined): string | undefined {
  const missing = /^Cannot find package '([^']+)'/.exec(problem)?.[1]
  if (missing && /^[@~$]?(?:\/|$)/.test(missing)) {
    return 'Node.js does not read the paths in tsconfig.json: import a relative path, or use "imports" in package.json.'
  }
  if (missing) return `Install it: npm install ${missing}`
  if (!found || !isPath(found.specifier)) return undefined
  const target = resolveFrom(found.from, found.specifier)
  const other = findModule(target) ?? findModule(`${target}/index`)
  if (!other || other === target) return undefined
  const path = relative(dirname(found.from), other)
  return `Did you mean '${path.startsWith('.') ? path : `./${path}`}'?`
}

/** An import statement in a file. */
interface Import {
  from: string
  specifier: string
  location: Location
}

const isPath = (specifier: string) => /^\.{0,2}\//.test(specifier)
const resolveFrom = (importer: string, specifier: string) =>
  fileURLToPath(new URL(specifier.replaceAll('%', '%25'), pathToFileURL(importer)))

function importsOf(file: string): Import[] {
  if (!existsSync(file)) return []
  const source = readFileSync(file, 'utf8')
  const statements = source.matchAll(/\b(?:from|import)\s{0,9}\(?\s{0,9}(["'])([^"'\n]{1,500})\1/g)
  return Array.from(statements, ({ 0: text, 2: specifier = '', index }) => {
    // The place is that of the specifier, after its quote.
    const location = placeAt(file, source, index + text.length - specifier.length - 1)
    return { from: file, specifier, location }
  })
}

/** Bounds the number of files that are searched for an import. */
const maxFiles = 500

/** Returns the files that a module loads by relative paths, each after those that it imports, as Node.js runs them. */
export function filesBelow(file: string, seen = new Set<string>()): string[] {
  if (seen.has(file) || seen.size >= maxFiles) return []
  seen.add(file)
  const imported = importsOf(file).flatMap(({ specifier, from }) => {
    const target = isPath(specifier) ? resolveFrom(from, specifier) : undefined
    return target && existsSync(target) ? filesBelow(target, seen) : []
  })
  return [...imported, file]
}

const importsBelow = (file: string) => filesBelow(file).flatMap(importsOf)

/** Returns whether an error message is about the import of this specifier. */
function isNamedBy(problem: string, specifier: string, importer: string): boolean {
  const mentions = (name: string) =>
    problem
      .split(name)
      .slice(1)
      .some((rest) => /^(?:["'\s]|$)/.test(rest))
  if (isPath(specifier)) return mentions(resolveFrom(importer, specifier)) || mentions(specifier)
  const [scheme] = /^[a-z]+:\/\//.exec(specifier) ?? []
  if (scheme) return mentions(`'${scheme.slice(0, -2)}`)
  if (mentions(`'${specifier}`) || mentions(`"${specifier}`) || mentions(` ${specifier}`)) return true
  const [, name = '', subpath = ''] = /^(@[^/]*\/[^/]+|[^/]+)(\/.*)?$/.exec(specifier) ?? []
  const isOfPackage = mentions(`/node_modules/${name}/package.json`)
  return mentions(`'${name}`) || (isOfPackage && (subpath === '' || mentions(`'.${subpath}`)))
}
