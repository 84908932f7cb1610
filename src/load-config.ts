import { existsSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { collectOperations } from './collect-operations.ts'
import { type Config, ConfigError } from './config.ts'
import { findModule, findUp } from './find-module.ts'
import { suggest } from './primitives/suggest.ts'
import { collectSchedules } from './schedule.ts'
import { importModule } from './user-module.ts'

/** Without `--config`, the first of these files that exists in the working directory is loaded. */
export const configNames = ['accepted.config.ts', 'accepted.config.js', 'accepted.config.mjs'] as const

/** The members of a configuration, with what each must be. */
const members: Readonly<Record<keyof Config, { type: string; example: string }>> = {
  operations: { type: 'object', example: "import * as operations from './operations.ts'" },
  handlers: { type: 'string', example: "handlers: './handlers.ts'" },
  routes: { type: 'string', example: "routes: './routes.ts'" },
  migrations: { type: 'string', example: "migrations: './migrations'" },
  authenticate: { type: 'function', example: 'authenticate: request => request.headers.user ?? null' },
}

/**
 * Loads a configuration file and makes its paths absolute.
 *
 * @param path default: the first of {@link configNames} in the working directory
 * @throws ConfigError when the file does not exist, or when its default export is not a valid configuration
 * @throws ModuleError when the file or a module that it imports cannot be loaded
 */
export async function loadConfig(path?: string): Promise<Config & { path: string }> {
  const file = (path ? [path] : configNames).map((name) => findModule(resolve(name))).find((found) => found)
  if (!file && !path) {
    throw new ConfigError(`There is no ${configNames[0]} in this directory. Create one, or pass --config <file>.`)
  }
  if (!file) throw new ConfigError(`The configuration file ${resolve(`${path}`)} does not exist. Check --config.`)
  const config = assertConfig(file, (await importModule(file)).default)
  // Whether a file exists is checked when it is needed: an image of the API may have no handlers.
  const module = (name: string) => findModule(resolve(dirname(file), name)) ?? resolve(dirname(file), name)
  return {
    ...config,
    path: file,
    handlers: module(config.handlers),
    ...(config.routes && { routes: module(config.routes) }),
    ...(config.migrations && { migrations: findDirectory(file, config.migrations) }),
  }
}

/** Checks the members of a configuration. Users of JavaScript have no compiler that does so. */
function assertConfig(file: string, config: unknown): Config {
  if (typeof config !== 'object' || config === null || !('operations' in config || 'handlers' in config)) {
    throw new ConfigError(`${file} must export defineConfig({ operations, handlers, … }) as its default export.`)
  }
  for (const [name, value] of Object.entries(config)) {
    const member = Object.hasOwn(members, name) ? members[name as keyof Config] : undefined
    if (!member) {
      const known = Object.keys(members)
      const similar = suggest(name, known)
      const question = similar ? ` Did you mean '${similar}'?` : ''
      throw new ConfigError(
        `${file} has an unknown member '${name}'. Use one of these: ${known.join(', ')}.${question}`,
      )
    }
    const isOptional = name !== 'operations' && name !== 'handlers'
    if ((typeof value === member.type && value !== null && value !== '') || (isOptional && value === undefined))
      continue
    throw new ConfigError(
      `${file}: '${name}' must be ${member.type === 'object' ? 'an' : 'a'} ${member.type}, for example ${member.example}`,
    )
  }
  for (const name of ['operations', 'handlers'] as const) {
    if (name in config) continue
    throw new ConfigError(`${file}: '${name}' is missing. Add it, for example ${members[name].example}`)
  }
  assertOperations(file, (config as Config).operations)
  return config as Config
}

function assertOperations(file: string, record: object): void {
  // A new app can migrate its database before it has operations.
  if (Object.keys(record).length === 0) return
  try {
    collectSchedules(record, collectOperations(record))
  } catch (error) {
    if (!(error instanceof TypeError)) throw error
    throw new ConfigError(`${file}: ${error.message}. Correct the module of the operations.`, { cause: error })
  }
}

/** A compiler does not copy `.sql` files, so the directory may also be in a parent of a compiled configuration. */
function findDirectory(file: string, name: string): string {
  const directory = dirname(file)
  const root = dirname(findUp(directory, 'package.json') ?? file)
  for (let from = directory; from.startsWith(root); from = dirname(from)) {
    const found = resolve(from, name)
    if (existsSync(found)) return found
    if (from === root) break
  }
  return resolve(directory, name)
}
