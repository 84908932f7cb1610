import Type, { type Static, type TProperties } from 'typebox'
import { Value } from 'typebox/value'
import { ConfigError } from './config.ts'
import { isBaseUrl, isCorsOrigin, isOrigin } from './origins.ts'
import { problemOfKeys } from './primitives/key-ring.ts'
import { isLoopbackHost } from './primitives/networks.ts'
import { redact } from './primitives/redact.ts'
import { suggest } from './primitives/suggest.ts'
import { areNetworks, exampleOf, Host, PoolSize, PostgresUrl, readValue, requirementOf } from './setting-types.ts'

const port = (description: string, initial: number) =>
  Type.Integer({ minimum: 0, maximum: 65535, default: initial, description })

/** Returns whether a text is a list of hosts: names or IP addresses, separated by commas. `*` is any host. */
const areHosts = (text: string): boolean =>
  text.split(',').every((host) => host.trim() === '*' || isOrigin(`http://${host.trim()}`))

/** When GRACE_SECONDS have passed, a process may take this long to exit. */
export const exitGraceSeconds = 5

/** Every environment variable that Accepted reads. */
const environment = {
  DATABASE_URL: PostgresUrl('URL of Postgres, or of a pooler in front of it'),
  DATABASE_LISTEN_URL: PostgresUrl(
    'URL of Postgres itself, for LISTEN and migrations, when DATABASE_URL leads through a pooler; default: DATABASE_URL',
  ),
  DATABASE_PREPARED_STATEMENTS: Type.Enum(['on', 'off'], {
    default: 'on',
    description: 'Use off for a pooler in transaction mode that does not support prepared statements',
  }),
  POOL_SIZE: PoolSize(
    'Maximum number of connections in the pool of each process; default: 10 for the API, 20 for a worker',
  ),
  HOST: Host("Address that the API and the worker's health server listen on", '127.0.0.1'),
  PORT: port('Port of the API', 3000),
  WORKER_PORT: port("Port of the worker's health and metrics routes", 3001),
  GRACE_SECONDS: Type.Integer({
    minimum: 0,
    maximum: 86_400,
    default: 15,
    description: 'Number of seconds that requests and jobs in progress may continue after SIGTERM',
  }),
  DATA_DIR: Type.String({ minLength: 1, default: '.data', description: 'Data directory of the embedded Postgres' }),
  PUBLIC_URL: Type.Optional(
    Type.Refine(
      Type.String({
        description:
          'URL that the links in responses and webhooks start with; default: the origin that the client used, and in webhooks the address of the API on this machine',
        examples: ['https://api.example.com'],
      }),
      isBaseUrl,
      () => 'must be an http(s) URL without credentials, query and fragment',
    ),
  ),
  HOSTS: Type.Optional(
    Type.Refine(
      Type.String({
        description: 'Hosts that the API serves besides loopback names and the host of PUBLIC_URL, separated by commas',
        examples: ['api.example.com,10.0.0.5'],
      }),
      areHosts,
      () => 'must be a list of host names or IP addresses, or * for any host',
    ),
  ),
  RATE_LIMIT: Type.Integer({
    minimum: 0,
    default: 60_000,
    description: 'Requests per minute that one principal may send to one API process; 0 for any number',
  }),
  OPEN_LIMIT: Type.Integer({
    minimum: 0,
    default: 5_000,
    description:
      'Event streams, WebSockets and waiting requests that one principal may have open at one API process; 0 for any number',
  }),
  CORS_ORIGINS: Type.Optional(
    Type.Refine(
      Type.String({
        description: 'Origins whose web pages may call the API, separated by commas; * for any',
        examples: ['https://app.example.com'],
      }),
      (text) => text.split(',').every((origin) => isCorsOrigin(origin.trim())),
      () => 'must be a list of origins without a path, or * for any',
    ),
  ),
  WEBHOOK_ALLOW: Type.Optional(
    Type.Refine(
      Type.String({
        description: 'Private addresses that webhooks may call: IP addresses and networks (CIDR), separated by commas',
        examples: ['10.1.2.3,10.2.0.0/16'],
      }),
      (text) => areNetworks(text.split(',')),
      () => 'must be a list of IP addresses or networks',
    ),
  ),
  ALLOW_ANONYMOUS: Type.Optional(
    Type.Enum(['1'], { description: 'Serves requests without a credential on addresses of other machines too' }),
  ),
  ENCRYPTION_KEYS: Type.Optional(
    Type.Refine(
      Type.String({
        description: 'Keys that encrypt secrets and sealed members, separated by commas; the first encrypts',
        examples: ['2027:<base64 of 32 bytes>'],
      }),
      (text) => problemOfKeys(text) === undefined,
      (text) => problemOfKeys(text) ?? '',
    ),
  ),
  METRICS_TOKEN: Type.Optional(
    Type.String({
      minLength: 16,
      description: 'Token that Prometheus sends as Authorization: Bearer to read the metrics',
      examples: ['<at least 16 characters>'],
    }),
  ),
  LOG_LEVEL: Type.Enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], {
    default: 'info',
    description: 'The lowest level that is logged',
  }),
  LOG_FORMAT: Type.Optional(
    Type.Enum(['text', 'json'], { description: 'Format of the log; default: text on a terminal, else json' }),
  ),
} satisfies TProperties

export const environmentSchema = Type.Object(environment)

export type Settings = Static<typeof environmentSchema>

/**
 * Reads and validates the environment. No other code reads environment variables.
 *
 * @throws ConfigError that names the variable and its value, and says what the value must be
 */
export function readSettings(env: NodeJS.ProcessEnv = process.env): Settings {
  const given = Object.entries(environment).flatMap(([name, schema]) => {
    const text = env[name]?.trim()
    return text ? [[name, readValue(text, schema)]] : []
  })
  const settings = Value.Default(environmentSchema, Object.fromEntries(given))
  const [violation] = Value.Errors(environmentSchema, settings)
  if (violation) {
    const name = violation.instancePath.slice(1) as keyof typeof environment
    const text = `${env[name]}`
    // A URL may contain a password.
    const isSecret = name.endsWith('_URL') || name === 'ENCRYPTION_KEYS' || name === 'METRICS_TOKEN'
    const value = isSecret ? '' : `='${redact(text).replaceAll(/\p{Cc}/gu, ' ')}'`
    const schema = environment[name]
    const quotes = /^\s*(["']).*\1\s*$/s.test(text) ? ' Remove the quotes around the value.' : ''
    throw new ConfigError(
      `${name}${value} is invalid: it ${requirementOf(violation, schema)} (${Object(schema).description}).${quotes} ` +
        `Example: ${name}=${exampleOf(text, schema)}`,
    )
  }
  return settings as Settings
}

/**
 * Requires the hosts that the API serves if other machines can reach it.
 *
 * @throws ConfigError when HOST is not a loopback address, and neither PUBLIC_URL nor HOSTS is set
 */
export function requireHosts({ HOST, HOSTS, PUBLIC_URL }: Settings): void {
  if (isLoopbackHost(HOST) || HOSTS || PUBLIC_URL) return
  throw new ConfigError(
    `With HOST=${HOST}, other machines can reach the API: set PUBLIC_URL to its URL, or HOSTS to the names by which ` +
      'clients call it, like HOSTS=api.example.com (HOSTS=* for any name).',
  )
}

/** Makes the database options from the settings. */
export function databaseOptions(settings: Settings, url: string) {
  return {
    url,
    ...(settings.DATABASE_LISTEN_URL && { listenUrl: settings.DATABASE_LISTEN_URL }),
    preparedStatements: settings.DATABASE_PREPARED_STATEMENTS === 'on',
    ...(settings.POOL_SIZE && { poolSize: settings.POOL_SIZE }),
  }
}

/**
 * Returns DATABASE_URL.
 *
 * @throws ConfigError when the variable is not set
 */
export function requireDatabaseUrl(settings: Settings, env: NodeJS.ProcessEnv = process.env): string {
  if (settings.DATABASE_URL) return settings.DATABASE_URL
  const others = Object.keys(env).filter((name) => !Object.hasOwn(environment, name))
  const similar = suggest('DATABASE_URL', others)
  throw new ConfigError(
    `DATABASE_URL is not set${similar ? `, but ${similar} is` : ''}. ` +
      'Set it to postgres://user:password@host:5432/database, or run `accepted dev`, which starts its own Postgres.',
  )
}
