import Type from 'typebox'
import type { TLocalizedValidationError } from 'typebox/error'

/** Returns whether a text is a URL of Postgres. As for the driver, the host may be missing after the user. */
const isPostgresUrl = (text: string): boolean =>
  /^postgres(ql)?:\/\//.test(text) && URL.canParse(text.replace('@/', '@localhost/'))

/** The schema of a setting that is the URL of Postgres. */
export const PostgresUrl = (description: string) =>
  Type.Optional(
    Type.Refine(
      Type.String({ description, examples: ['postgres://user:password@host:5432/database'] }),
      isPostgresUrl,
      () => 'must be a URL that starts with postgres://, with special characters of the password percent-encoded',
    ),
  )

/** Says what a value must be. TypeBox names only the first limit that a number exceeds. */
export function requirementOf(violation: TLocalizedValidationError, schema: object): string {
  if (violation.keyword === 'enum') return `must be one of ${violation.params.allowedValues.join(', ')}`
  const { type, minimum, maximum } = schema as { type?: string; minimum?: number; maximum?: number }
  if (type !== 'integer') return violation.message
  return maximum === undefined
    ? `must be an integer of at least ${minimum}`
    : `must be an integer from ${minimum} to ${maximum}`
}
