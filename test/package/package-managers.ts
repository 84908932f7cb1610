import { execFile } from 'node:child_process'
import { chmod, mkdir, mkdtemp, realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import type { Registry } from './registry.ts'

const exec = promisify(execFile)

/** The package managers besides npm, by the name of their package. */
const managers = { pnpm: '12.21.0', yarn: '1.22.22', '@yarnpkg/cli-dist': '4.18.1' }

export interface Workplace {
  /** A new directory for an app. */
  createDirectory(name: string): Promise<string>
  /** The environment of package managers: this version of Node.js, the registry, and caches of their own. */
  env: NodeJS.ProcessEnv
  /** The commands of the package managers. `npm` and `pnpm` are in the PATH too. */
  commands: Readonly<Record<'npm' | 'pnpm' | 'Yarn 1' | 'Yarn 4', string>>
}

/** Installs the package managers in a directory for temporary files. Removes all when the test ends. */
export async function createWorkplace(t: Test, registry: Registry): Promise<Workplace> {
  // A directory whose parents have no package.json or node_modules. Postgres may run as another user.
  const directory = await realpath(await mkdtemp(join(tmpdir(), 'accepted-package-')))
  await chmod(directory, 0o755)
  t.teardown(() => rm(directory, { recursive: true, force: true, maxRetries: 3 }))
  const tools = join(directory, 'tools')
  await mkdir(tools)
  const added = /^(npm_|tap|pnpm_|yarn_|NODE_(?!EXTRA_CA)|INIT_CWD$|DATABASE_|ACCEPTED_)/i
  const inherited = Object.entries(process.env).filter(([name]) => !added.test(name))
  const path = (process.env.PATH ?? '').split(delimiter).filter((entry) => !entry.endsWith('node_modules/.bin'))
  const env: NodeJS.ProcessEnv = {
    ...Object.fromEntries(inherited),
    PATH: [dirname(process.execPath), join(tools, 'node_modules/.bin'), ...path].join(delimiter),
    HOME: directory,
    // Not the bundles of the tests.
    NODE_OPTIONS: '',
    // Answers the question of `npx` and `npm create` whether to install the package.
    npm_config_yes: 'true',
    npm_config_registry: registry.url,
    npm_config_cache: join(directory, 'npm-cache'),
    npm_config_update_notifier: 'false',
    pnpm_config_registry: registry.url,
    XDG_DATA_HOME: join(directory, 'data'),
    XDG_CACHE_HOME: join(directory, 'cache'),
    XDG_STATE_HOME: join(directory, 'state'),
    YARN_REGISTRY: registry.url,
    YARN_CACHE_FOLDER: join(directory, 'yarn-cache'),
    YARN_NPM_REGISTRY_SERVER: registry.url.replace(/\/$/, ''),
    YARN_UNSAFE_HTTP_WHITELIST: '127.0.0.1',
    YARN_NODE_LINKER: 'node-modules',
    YARN_ENABLE_GLOBAL_CACHE: 'false',
    YARN_ENABLE_TELEMETRY: 'false',
    // Yarn 2 changes no lockfile where the variable CI is set.
    YARN_ENABLE_IMMUTABLE_INSTALLS: 'false',
    CI: 'true',
  }
  const specifiers = Object.entries(managers).map(([name, version]) => `${name}@${version}`)
  await exec('npm', ['install', '--no-save', ...specifiers], { cwd: tools, env })
  return {
    env,
    commands: {
      npm: 'npm',
      pnpm: 'pnpm',
      'Yarn 1': `node ${join(tools, 'node_modules/yarn/bin/yarn.js')}`,
      'Yarn 4': `node ${join(tools, 'node_modules/@yarnpkg/cli-dist/bin/yarn.js')}`,
    },
    async createDirectory(name) {
      await mkdir(join(directory, name))
      return join(directory, name)
    },
  }
}
