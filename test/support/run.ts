/**
 * Runs the tests: starts one Postgres for all tests, creates their template database and starts tap. Tap gets the
 * arguments, for example `npm test -- test/db/pool.test.ts`. With --write-schema, it runs no tests, but
 * writes migrations/schema.sql.
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

/** Chooses the memory file system if it has enough space. It is faster, and test databases need not survive a crash. */
async function chooseParentDirectory(): Promise<string> {
  const memory = '/dev/shm'
  const { bavail, bsize } = await statfs(memory).catch(() => ({ bavail: 0, bsize: 0 }))
  return bavail * bsize > minMemoryBytes ? memory : tmpdir()
}

const dataDir = await mkdtemp(join(await chooseParentDirectory(), 'accepted-test-'))
// When root runs the tests, Postgres runs as another user. That user needs access.
await chmod(dataDir, 0o755)
const postgres = await startEmbeddedPostgres({
  dataDir,
  database: templateName,
  // Many pools are open at the same time.
  settings: { max_connections: '400', fsync: 'off' },
})

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
  const tap = spawn(process.execPath, [tapProgram, ...process.argv.slice(2)], {
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
