import { existsSync, readFileSync } from 'node:fs'
import { dirname, isAbsolute, join, relative } from 'node:path'
// The compiler of this project has no API for JavaScript.
import ts from 'typescript-5'
import { root } from './production-packages.ts'

/** An entry of `exports` in package.json that has types. */
export interface EntryPoint {
  /** What users import, for example `accepted/worker`. */
  specifier: string
  /** The path of its declaration file. */
  file: string
}

interface Manifest {
  name: string
  exports: Readonly<Record<string, string | { types: string }>>
}

export const readManifest = <M extends Manifest>(): M => JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

export const entryPointsOf = ({ name, exports }: Manifest): EntryPoint[] =>
  Object.entries(exports).flatMap(([path, target]) =>
    typeof target === 'string' ? [] : [{ specifier: join(name, path), file: join(root, target.types) }],
  )

/** A parsed declaration file. */
export interface Declarations {
  file: string
  source: ts.SourceFile
  /** The modules that it imports: the path of a declaration file, or the name of a package. */
  imports: ReadonlyMap<string, string>
}

/** Parses declaration files and all those that they import from this package. */
export function readDeclarations(files: readonly string[]): Map<string, Declarations> {
  const found = new Map<string, Declarations>()
  const read = (file: string): void => {
    if (found.has(file)) return
    if (!existsSync(file)) throw new Error(`There is no ${relative(root, file)}: run \`npm run build\`.`)
    const text = readFileSync(file, 'utf8')
    const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true)
    const specifiers = ts.preProcessFile(text).importedFiles.map(({ fileName }) => fileName)
    const imports = new Map(specifiers.map((specifier) => [specifier, resolveFrom(file, specifier)]))
    found.set(file, { file, source, imports })
    for (const target of imports.values()) if (isAbsolute(target)) read(target)
  }
  files.forEach(read)
  return found
}

/** The compiler leaves the extensions of relative imports as they are in the sources. */
const resolveFrom = (file: string, specifier: string) =>
  specifier.startsWith('.') ? join(dirname(file), specifier.replace(/\.[jt]s$/, '.d.ts')) : specifier
