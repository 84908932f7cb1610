/**
 * Runs the tests: starts one Postgres for all of them, creates their template database and starts tap. Arguments go to
 * tap: `npm test -- test/db/migrate.test.ts`. With --write-schema it writes migrations/schema.sql and runs no test.
 */
import { execFileSync, spawn } from 'node:child_process'
import { chmod, mkdtemp, readFile, rm, statfs, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { startEmbeddedPostgres } from '../../src/embedded-postgres/server.ts'
import { migrate } from '../../src/migrate/migrate.ts'
import { adminUrlVariable, templateName } from './database.ts'
import { describeSchema, schemaFile } from './schema.ts'

const root = join(import.meta.dirname, '../..')

const minMemoryBytes = 4 * 2 ** 30

/** Returns the memory file system if it has room: the tests create hundreds of databases, and none has to survive. */
async function chooseParentDirectory(): Promise<string> {
  const memory = '/dev/shm'
  const { bavail, bsize } = await statfs(memory).catch(() => ({ bavail: 0, bsize: 0 }))
  return bavail * bsize > minMemoryBytes ? memory : tmpdir()
}

const dataDir = await mkdtemp(join(await chooseParentDirectory(), 'accepted-test-'))
// When the tests run as root, Postgres runs as another user and needs access.
await chmod(dataDir, 0o755)
const postgres = await startEmbeddedPostgres({
  dataDir,
  database: templateName,
  // Tests open many pools at once. No test database has to survive a crash.
  settings: { max_connections: '400', fsync: 'off' },
})

const tapProgram = join(root, 'node_modules/tap/dist/esm/run.mjs')

/** Rebuilds tap without the plugin that .taprc disables. Needed once after each install. */
async function buildTap(): Promise<void> {
  const built = await readFile(join(root, 'node_modules/@tapjs/test/test-built/dist/esm/index.js'), 'utf8')
  if (built.includes('@tapjs/typescript')) {
    execFileSync(process.execPath, [tapProgram, 'build'], { cwd: root, stdio: 'inherit' })
  }
}

async function runTap(): Promise<number> {
  await buildTap()
  const tap = spawn(process.execPath, [tapProgram, ...process.argv.slice(2)], {
    cwd: root,
    stdio: 'inherit',
    env: {
      ...process.env,
      [adminUrlVariable]: postgres.url,
      NODE_OPTIONS: `--import=${pathToFileURL(join(import.meta.dirname, 'without-hooks.ts'))}`,
      // Saves compile time: the tests start hundreds of processes that load the same modules.
      NODE_COMPILE_CACHE: join(root, 'node_modules/.cache/accepted-test'),
    },
  })
  // The terminal sends SIGINT to tap too. This process waits for tap and then stops Postgres.
  process.on('SIGINT', () => {})
  process.on('SIGTERM', () => tap.kill('SIGTERM'))
  return new Promise((resolve) => tap.on('close', (code) => resolve(code ?? 1)))
}

async function run(): Promise<number> {
  await migrate({ url: postgres.url, appMigrations: join(root, 'examples/todos/migrations') })
  if (process.argv[2] !== '--write-schema') return runTap()
  await writeFile(schemaFile, await describeSchema(postgres.url))
  return 0
}

try {
  process.exitCode = await run()
} finally {
  await postgres.stop('immediate')
  if (process.exitCode === 0) await rm(dataDir, { recursive: true, force: true })
  else console.error(`Kept the databases of failed tests in ${postgres.dataDir}`)
}
