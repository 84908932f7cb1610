import { existsSync } from 'node:fs'
import { BlockList, isIP } from 'node:net'
import { dirname, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { FastifyRequest } from 'fastify'
import Type, { type Static, type TProperties } from 'typebox'
import { Value } from 'typebox/value'

/** What a principal may do besides its own jobs: `admin` registers webhooks. */
export type Scope = 'admin'

/** Who asks, and what it may do besides its own jobs. */
export interface Identity {
  principal: string
  scopes: readonly string[]
}

type Answer = string | Identity | null

/** Who asks: the principal's name, alone or with scopes, or null when the request names nobody known (401). */
export type Authenticate = (request: FastifyRequest) => Promise<Answer> | Answer

/** What an `accepted.config.ts` says. Paths are relative to that file. */
export interface Config {
  /** The operations: a module namespace or any record; exports that are no operations are ignored. */
  operations: object
  /** The module whose default export `defineHandlers` made. Loaded by the worker only. */
  handlers: string
  /** A module whose default export is a Fastify plugin: the app's own routes. Loaded by the API only. */
  routes?: string
  /** A directory of the app's own .sql migrations; they run after ours. */
  migrations?: string
  /** Default: API keys when there are any, else everybody is `anonymous`. */
  authenticate?: Authenticate
}

/** Types an `accepted.config.ts`. */
export function defineConfig(config: Config): Config {
  return config
}

/** A mistake of whoever starts the program; its message is a sentence that says what to do. */
export class ConfigError extends Error {
  override name = 'ConfigError'
}

/** Where a configuration is looked for without `--config`. */
export const configNames = ['accepted.config.ts', 'accepted.config.js', 'accepted.config.mjs'] as const

/**
 * Loads a configuration file and makes its paths absolute.
 *
 * @param path the file; default: one of {@link configNames} in the working directory
 * @throws ConfigError
 */
export async function loadConfig(path?: string): Promise<Config & { path: string }> {
  const file = path ? resolve(path) : configNames.map((name) => resolve(name)).find((name) => existsSync(name))
  if (!file) throw new ConfigError(`There is no ${configNames[0]} here: make one, or name it with --config <file>.`)
  if (!existsSync(file)) throw new ConfigError(`The configuration file ${file} does not exist.`)
  const { default: config } = (await import(pathToFileURL(file).href)) as { default?: Config }
  if (!config || typeof config.operations !== 'object' || typeof config.handlers !== 'string') {
    throw new ConfigError(`${file} must have a default export made by defineConfig({ operations, handlers, … }).`)
  }
  const absolute = (name: string) => resolve(dirname(file), name)
  return {
    ...config,
    path: file,
    handlers: absolute(config.handlers),
    ...(config.routes && { routes: absolute(config.routes) }),
    ...(config.migrations && { migrations: absolute(config.migrations) }),
  }
}

const port = (description: string, initial: number) =>
  Type.Integer({ minimum: 0, maximum: 65535, default: initial, description })

/**
 * The addresses in a list of IP addresses and networks in CIDR notation.
 *
 * @throws TypeError when one is neither
 */
export function addressesIn(networks: readonly string[]): BlockList {
  const list = new BlockList()
  for (const network of networks) {
    const [, address = '', prefix] = network.trim().match(/^([^/]+)(?:\/(\d{1,3}))?$/) ?? []
    const bits = { 0: -1, 4: 32, 6: 128 }[isIP(address)] as number
    if (Number(prefix ?? 0) > bits) throw new TypeError(`'${network}' is neither an IP address nor a network`)
    list.addSubnet(address, Number(prefix ?? bits), bits === 32 ? 'ipv4' : 'ipv6')
  }
  return list
}

function areNetworks(texts: readonly string[]): boolean {
  try {
    addressesIn(texts)
    return true
  } catch {
    return false
  }
}

/** Whether a text is scheme and host of http(s), with a port at most; a URL parser alone would mend or drop what is odd. */
export const isOrigin = (text: string): boolean =>
  /^https?:\/\/([\w.-]+|\[[\da-f:.]+\])(:\d*)?$/i.test(text) && URL.canParse(text)

/** Every environment variable that is read, with what it means. */
const environment = {
  DATABASE_URL: Type.Optional(Type.String({ pattern: '^postgres(ql)?://', description: 'Postgres; may be a pooler' })),
  DATABASE_LISTEN_URL: Type.Optional(
    Type.String({
      pattern: '^postgres(ql)?://',
      description: 'Postgres directly, for LISTEN and migrations, when DATABASE_URL goes through a pooler',
    }),
  ),
  DATABASE_PREPARED_STATEMENTS: Type.Enum(['on', 'off'], {
    default: 'on',
    description: 'Named prepared statements; off for a pooler that cannot carry them from one session to the next',
  }),
  HOST: Type.String({
    minLength: 1,
    default: '127.0.0.1',
    description: "The address the API and the worker's health listen on",
  }),
  PORT: port('The port of the API', 3000),
  WORKER_PORT: port("The port of the worker's health", 3001),
  DATA_DIR: Type.String({ minLength: 1, default: '.data', description: 'Where the embedded Postgres keeps its data' }),
  PUBLIC_URL: Type.Optional(
    Type.Refine(
      Type.String({ description: 'The origin in links; default: as the client called us' }),
      isOrigin,
      () => 'must be an http(s) origin without path, like https://api.example.com',
    ),
  ),
  RATE_LIMIT: Type.Optional(
    Type.Integer({ minimum: 1, description: 'Requests per minute that one principal may send to one API process' }),
  ),
  WEBHOOK_ALLOW: Type.Optional(
    Type.Refine(
      Type.String({ description: 'Private addresses that webhooks may call, or networks in CIDR notation, by commas' }),
      (text) => areNetworks(text.split(',')),
      () => 'must be a list of IP addresses or networks',
    ),
  ),
  LOG_LEVEL: Type.Enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], {
    default: 'info',
    description: 'How much is logged',
  }),
} satisfies TProperties

const environmentSchema = Type.Object(environment)

export type Settings = Static<typeof environmentSchema>

/**
 * Reads the environment; nothing else does.
 *
 * @throws ConfigError naming the variable, what it holds and what it should
 */
export function readSettings(env: NodeJS.ProcessEnv = process.env): Settings {
  const given = Object.fromEntries(Object.keys(environment).flatMap((name) => (env[name] ? [[name, env[name]]] : [])))
  const settings = Value.Convert(environmentSchema, Value.Default(environmentSchema, given))
  const [violation] = Value.Errors(environmentSchema, settings)
  if (violation) {
    const name = violation.instancePath.slice(1) as keyof typeof environment
    const isUrl = name.endsWith('_URL')
    // A URL may hold a password.
    throw new ConfigError(
      `${name}${isUrl ? '' : `='${env[name]}'`} is not usable: it ${violation.message} (${Object(environment[name]).description}).`,
    )
  }
  return settings as Settings
}

/**
 * The Postgres to use.
 *
 * @throws ConfigError when DATABASE_URL is not set
 */
export function requireDatabaseUrl(settings: Settings): string {
  if (settings.DATABASE_URL) return settings.DATABASE_URL
  throw new ConfigError(
    'DATABASE_URL is not set: set it to postgres://user:password@host:5432/database, or use `accepted dev`, which brings a Postgres.',
  )
}
