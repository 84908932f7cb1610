/** The principal of the jobs of schedules, unless a schedule names another one. */
export const schedulePrincipal = 'schedule'

/**
 * Names that no caller may use as a principal. Filters read `*` as all principals. Deliveries have `webhook:<endpoint>`.
 * In `accepted.audit`, `forgotten:<id>` replaces a principal that was forgotten.
 */
const reserved = /^(?:\*$|schedule$|webhook:|forgotten:)/

/** Counts characters as Postgres does, not UTF-16 units. */
const allowedLength = /^.{1,255}$/su
// biome-ignore lint/suspicious/noControlCharactersInRegex: these characters are searched for
const controlCharacter = /[\u0000-\u001f\u007f-\u009f]/

/**
 * Checks a name that a caller wants to use as a principal. `accepted.assert_principal` checks the same in SQL.
 *
 * @returns undefined if the name can be used. Otherwise what is wrong, to follow "the principal": `must not be empty`.
 */
export function problemOfPrincipal(name: unknown): string | undefined {
  if (typeof name !== 'string') return `must be a string, not ${name === null ? 'null' : typeof name}`
  if (name === '') return 'must not be empty'
  if (!allowedLength.test(name)) return 'must have at most 255 characters'
  if (controlCharacter.test(name) || !name.isWellFormed())
    return 'must not contain control characters or lone surrogates'
  if (reserved.test(name)) {
    return `must not be '${name}': *, schedule, webhook:… and forgotten:… are reserved; use another name`
  }
}

/** @throws TypeError if a caller may not use the name as a principal */
export function assertPrincipal(name: unknown): void {
  const problem = problemOfPrincipal(name)
  if (problem) throw new TypeError(`The principal ${problem}`)
}
