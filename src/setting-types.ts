import { isIP } from 'node:net'
import Type from 'typebox'
import type { TLocalizedValidationError } from 'typebox/error'
import { parseNetworks } from './primitives/networks.ts'
import { suggest } from './primitives/suggest.ts'

const sslModes = ['disable', 'prefer', 'require', 'verify-ca', 'verify-full', 'no-verify']

const percentEncoded = 'must be a URL with the special characters of its password percent-encoded, like %40 for @'

/** Returns what is wrong with the URL of a Postgres. As for the driver, the host may be missing after the user. */
function problemOfUrl(text: string): string | undefined {
  const scheme = /^([\w+.:-]+):\/\//.exec(text)?.[1]
  if (!/^postgres(?:ql)?$/i.test(scheme ?? '')) {
    return `must be a URL that starts with postgres://${scheme ? `, not with ${scheme}://` : ''}`
  }
  const url = URL.parse(text.replace('@/', '@localhost/'))
  if (!url) {
    const [, authority = ''] = /^\w+:\/\/([^/?#]*)/.exec(text) ?? []
    // Otherwise the authority ends within a password that is not percent-encoded.
    const isComplete = authority.includes('@') || !text.includes('@')
    const isWrongPort = isComplete && URL.canParse(`postgres://${authority.replace(/:[^:@]*$/, '')}`)
    return isWrongPort ? 'must have a port from 1 to 65535' : percentEncoded
  }
  if (url.hostname.includes(',')) return 'must name one host'
  // The rest of a password that is not percent-encoded.
  const rest = [
    url.pathname,
    url.hash,
    ...url.search
      .slice(1)
      .split('&')
      .filter((part) => !part.includes('=')),
  ]
  if (rest.some((part) => part.includes('@'))) return percentEncoded
  const sslMode = url.searchParams.get('sslmode')
  if (sslMode === null || sslModes.includes(sslMode)) return undefined
  return `must have one of these as its sslmode: ${sslModes.join(', ')}`
}

/** The schema of a setting that is the URL of Postgres. */
export const PostgresUrl = (description: string) =>
  Type.Optional(
    Type.Refine(
      Type.String({ description, examples: ['postgres://user:password@host:5432/database'] }),
      (text) => problemOfUrl(text) === undefined,
      (text) => problemOfUrl(text) ?? '',
    ),
  )

/** The schema of a setting that limits the connections of a pool. A request that waits for a lock needs a second one. */
export const PoolSize = (description: string) =>
  Type.Optional(Type.Integer({ minimum: 2, maximum: 1_000, description, examples: [10] }))

/** Returns whether a text is the name or the IP address of a host, without a scheme and a port. */
const isHost = (text: string): boolean => isIP(text) !== 0 || /^[\w.-]+$/.test(text)

/** The schema of a setting that is the address of a host. */
export const Host = (description: string, initial: string) =>
  Type.Refine(
    Type.String({ default: initial, description }),
    isHost,
    () => 'must be an IP address or a host name, without scheme and port',
  )

/** Returns whether all texts are IP addresses or networks in CIDR notation. */
export function areNetworks(texts: readonly string[]): boolean {
  try {
    parseNetworks(texts)
    return true
  } catch {
    return false
  }
}

/** Says what a value must be. TypeBox names only the first limit that a number exceeds. */
export function requirementOf(violation: TLocalizedValidationError, schema: object): string {
  if (violation.keyword === 'enum') return `must be one of ${violation.params.allowedValues.join(', ')}`
  const { type, minimum, maximum } = schema as { type?: string; minimum?: number; maximum?: number }
  if (type !== 'integer') return violation.message
  return maximum === undefined
    ? `must be an integer of at least ${minimum}`
    : `must be an integer from ${minimum} to ${maximum}`
}

interface SettingSchema {
  type?: string
  enum?: string[]
  default?: unknown
  examples?: unknown[]
}

/** Reads a value of the environment: a number if the schema wants one. A number has no sign, point or exponent. */
export const readValue = (text: string, schema: SettingSchema): string | number =>
  schema.type === 'integer' && /^\d+$/.test(text) ? Number(text) : text

/** Chooses an example of a valid value: the one that was probably meant, or the default. */
export const exampleOf = (given: string, schema: SettingSchema): unknown =>
  suggest(given, schema.enum ?? []) ?? schema.default ?? schema.examples?.[0]
