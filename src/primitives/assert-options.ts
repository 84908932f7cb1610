import { suggest } from './suggest.ts'

/**
 * Checks that an argument is an object without misspelt options. Ignores a name that is not similar to any option.
 *
 * @throws TypeError that names the option which was probably meant
 */
export function assertOptions(what: string, options: unknown, names: readonly string[]): void {
  if (typeof options !== 'object' || options === null) throw new TypeError(`${what} requires an object with options`)
  for (const name of Object.keys(options)) {
    const similar = names.includes(name) ? undefined : suggest(name, names)
    if (similar) throw new TypeError(`${what} has no option '${name}'. Did you mean '${similar}'?`)
  }
}
