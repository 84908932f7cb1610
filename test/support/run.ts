/**
 * Runs the tests: starts one Postgres for all tests, creates their template database and starts tap. Tap gets the
 * arguments, for example `npm test -- test/db/pool.test.ts`.
 *
 * With `--database postgres://…`, the tests use this server and do not start their own, except those that crash it. The
 * user of the URL must be a superuser. With --write-schema, it runs no tests, but writes migrations/schema.sql.
 */
import { execFileSync, spawn } from 'node:child_process'
import { chmod, mkdtemp, readFile, rm, statfs, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { startEmbeddedPostgres } from '../../src/embedded-postgres/server.ts'
import { migrate } from '../../src/migrate/migrate.ts'
import { adminUrlVariable, queryOnce, templateName } from './database.ts'
import { describeSchema, schemaFile } from './schema.ts'

const root = join(import.meta.dirname, '../..')

const minMemoryBytes = 4 * 2 ** 30

/** Chooses the memory file system if it has enough space. It is faster, and test databases need not survive a crash. */
async function chooseParentDirectory(): Promise<string> {
  const memory = '/dev/shm'
  const { bavail, bsize } = await statfs(memory).catch(() => ({ bavail: 0, bsize: 0 }))
  return bavail * bsize > minMemoryBytes ? memory : tmpdir()
}

/** A server with an empty template database. */
interface TestServer {
  /** The URL of the template database. */
  url: string
  /** @param hasPassed false keeps the databases of failed tests */
  stop(hasPassed: boolean): Promise<void>
}

async function startServer(): Promise<TestServer> {
  const dataDir = await mkdtemp(join(await chooseParentDirectory(), 'accepted-test-'))
  // When root runs the tests, Postgres runs as another user. That user needs access.
  await chmod(dataDir, 0o755)
  const postgres = await startEmbeddedPostgres({
    dataDir,
    database: templateName,
    // Many pools are open at the same time.
    settings: { max_connections: '400', fsync: 'off' },
  })
  return {
    url: postgres.url,
    async stop(hasPassed) {
      await postgres.stop('immediate')
      if (hasPassed) await rm(dataDir, { recursive: true, force: true })
      else console.error(`Kept the databases of failed tests in ${postgres.dataDir}`)
    },
  }
}

/** Uses a running server. Test runs share its template database, so only one may use the server at a time. */
async function useServer(given: string): Promise<TestServer> {
  const template = new URL(given)
  template.pathname = `/${templateName}`
  await queryOnce(given, `drop database if exists ${templateName} with (force)`)
  await queryOnce(given, `create database ${templateName} encoding 'UTF8' template template0`)
  return { url: template.href, stop: async () => {} }
}

const { values: options, tokens } = parseArgs({
  ...{ strict: false, allowPositionals: true, tokens: true },
  options: { database: { type: 'string' }, 'write-schema': { type: 'boolean' } },
})
const ownArguments = tokens.flatMap((token) => {
  if (token.kind !== 'option' || !(token.name === 'database' || token.name === 'write-schema')) return []
  return token.inlineValue === false ? [token.index, token.index + 1] : [token.index]
})
const tapArguments = process.argv.slice(2).filter((_, index) => !ownArguments.includes(index))
const postgres = await (options.database ? useServer(String(options.database)) : startServer())

const tapProgram = join(root, 'node_modules/tap/dist/esm/run.mjs')

/** Rebuilds tap without the plugin that .taprc disables. This is needed once after each install. */
async function buildTap(): Promise<void> {
  const built = await readFile(join(root, 'node_modules/@tapjs/test/test-built/dist/esm/index.js'), 'utf8')
  if (built.includes('@tapjs/typescript')) {
    execFileSync(process.execPath, [tapProgram, 'build'], { cwd: root, stdio: 'inherit' })
  }
}

async function runTap(): Promise<number> {
  await buildTap()
  const tap = spawn(process.execPath, [tapProgram, ...tapArguments], {
    cwd: root,
    stdio: 'inherit',
    env: {
      ...process.env,
      [adminUrlVariable]: postgres.url,
      NODE_OPTIONS: `--import=${pathToFileURL(join(import.meta.dirname, 'without-hooks.ts'))}`,
      // The tests start hundreds of processes that load the same modules.
      NODE_COMPILE_CACHE: join(root, 'node_modules/.cache/accepted-test'),
    },
  })
  // The terminal also sends SIGINT to tap. This process waits until tap has ended, and then stops Postgres.
  process.on('SIGINT', () => {})
  process.on('SIGTERM', () => tap.kill('SIGTERM'))
  return new Promise((resolve) => tap.on('close', (code) => resolve(code ?? 1)))
}

async function run(): Promise<number> {
  await migrate({ url: postgres.url, appMigrations: join(root, 'examples/todos/migrations') })
  if (!options['write-schema']) return runTap()
  await writeFile(schemaFile, await describeSchema(postgres.url))
  return 0
}

try {
  process.exitCode = await run()
} finally {
  await postgres.stop(process.exitCode === 0)
}
