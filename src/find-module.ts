import { existsSync, statSync } from 'node:fs'
import { dirname, extname, join } from 'node:path'

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

/** Finds a file or directory in a directory or in one of its parents. */
export function findUp(directory: string, name: string): string | undefined {
  const path = join(directory, name)
  if (existsSync(path)) return path
  const parent = dirname(directory)
  return parent === directory ? undefined : findUp(parent, name)
}
