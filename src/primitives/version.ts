import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

let version: string | undefined

/** Returns the version of this package. */
export function packageVersion(): string {
  version ??= JSON.parse(readFileSync(fileURLToPath(import.meta.resolve('accepted/package.json')), 'utf8')).version
  return version as string
}
