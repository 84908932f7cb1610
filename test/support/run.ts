/**
 * Runs the tests: starts one Postgres for all of them, makes the template of their databases, and hands over to tap.
 * Arguments go to tap: `npm test -- test/db/migrate.test.ts`. With --write-schema it writes migrations/schema.sql instead.
 */
import { execFileSync, spawn } from 'node:child_process'
import { chmod, mkdtemp, readFile, rm, statfs, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { startEmbeddedPostgres } from '../../src/db/embedded.ts'
import { migrate } from '../../src/db/migrate.ts'
import { adminUrlVariable, templateName } from './database.ts'
import { describeSchema, schemaFile } from './schema.ts'

const root = join(import.meta.dirname, '../..')

/** In memory, where there is enough of it: hundreds of databases are made and dropped, and nothing is to survive. */
async function roomyDirectory(): Promise<string> {
  const memory = '/dev/shm'
  const { bavail, bsize } = await statfs(memory).catch(() => ({ bavail: 0, bsize: 0 }))
  return bavail * bsize > 4 * 2 ** 30 ? memory : tmpdir()
}

const dataDir = await mkdtemp(join(await roomyDirectory(), 'accepted-test-'))
// As root, Postgres runs as another user, who must come in.
await chmod(dataDir, 0o755)
const postgres = await startEmbeddedPostgres({
  dataDir,
  database: templateName,
  // A hundred databases of tests at once; what a crash would lose is of no interest here.
  settings: { max_connections: '400', fsync: 'off' },
})

const tapProgram = join(root, 'node_modules/tap/dist/esm/run.mjs')

/** Without the plugin that .taprc switches off; tap builds itself anew for that, once after each install. */
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
      // Hundreds of processes load the same modules.
      NODE_COMPILE_CACHE: join(root, 'node_modules/.cache/accepted-test'),
    },
  })
  // The terminal tells tap as well; we wait for it.
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
  else console.error(`The databases of failed tests are kept in ${postgres.dataDir}`)
}
