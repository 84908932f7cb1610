/**
 * Runs the tests: starts one Postgres for all tests, creates their template database and starts tap. Tap gets the
 * arguments, for example `npm test -- test/db/pool.test.ts`. A directory stands for all its tests.
 *
 * With `--database postgres://…`, the tests use this server and do not start their own, except those that crash or
 * configure it. The user of the URL must be a superuser. With --write-schema, it runs no tests, but writes what is
 * generated from the schema: migrations/schema.sql and the reference in docs/sql.md.
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { globSync, statSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import sparticuz from '@sparticuz/chromium'
import {
  createTemporaryDataDir,
  maxTestConnections,
  removeTemporaryServer,
  startTestPostgres,
} from '../../src/embedded-postgres/temporary.ts'
import { bundleDependencies } from './bundles.ts'
import { adminUrlVariable, makeTemplate, queryOnce, templateName } from './database.ts'
import { describeSchema, schemaFile } from './schema.ts'
import { writeReference } from './sql-reference.ts'

const root = join(import.meta.dirname, '../..')

const cache = join(root, 'node_modules/.cache/accepted-test')

const readServer = `
  select current_user as name, rolsuper as is_superuser, current_setting('max_connections')::integer as max_connections
  from pg_roles where rolname = current_user`

interface TestServer {
  /** The URL of any of its databases, as a superuser. */
  url: string
  /** Whether the server may have too few connections for several test files at the same time. */
  hasFewConnections: boolean
  /** @param hasPassed false keeps the databases of failed tests */
  stop(hasPassed: boolean): Promise<void>
}

async function startServer(): Promise<TestServer> {
  const dataDir = await createTemporaryDataDir('accepted-test-')
  const postgres = await startTestPostgres(dataDir, 'postgres')
  return {
    url: postgres.url,
    hasFewConnections: false,
    async stop(hasPassed) {
      if (hasPassed) return removeTemporaryServer(postgres, dataDir)
      await postgres.stop('immediate')
      console.error(`Kept the databases of failed tests in ${postgres.dataDir}`)
    },
  }
}

/** Uses a running server. Test runs share its template database, so only one may use the server at a time. */
async function useServer(given: string): Promise<TestServer> {
  const [server] = await queryOnce(given, readServer)
  if (!server.is_superuser) throw new Error(`The user ${server.name} in --database must be a superuser`)
  await queryOnce(given, `drop database if exists ${templateName()} with (force)`)
  return { url: given, hasFewConnections: server.max_connections < maxTestConnections, stop: async () => {} }
}

/** Replaces a directory by its test files, because tap takes only files and patterns. */
function findTestFiles(argument: string): string[] {
  const isDirectory = statSync(argument, { throwIfNoEntry: false })?.isDirectory()
  return isDirectory ? globSync(join(argument, '**/*.test.ts')) : [argument]
}

const { values: options, tokens } = parseArgs({
  ...{ strict: false, allowPositionals: true, tokens: true },
  options: { database: { type: 'string' }, 'write-schema': { type: 'boolean' }, help: { type: 'boolean' } },
})
const ownArguments = tokens.flatMap((token) => {
  if (token.kind !== 'option' || !(token.name === 'database' || token.name === 'write-schema')) return []
  return token.inlineValue === false ? [token.index, token.index + 1] : [token.index]
})
const tapArguments = process.argv
  .slice(2)
  .filter((_, index) => !ownArguments.includes(index))
  .flatMap(findTestFiles)

const help = `Usage: npm test -- [options] [files or directories]

Options of this program; those of tap follow:
  --database <url>  run the tests on this server, as a superuser, instead of starting one
`

const tapProgram = join(root, 'node_modules/tap/dist/esm/run.mjs')

/** Rebuilds tap without the plugins that .taprc disables. This is needed once after each install. */
async function buildTap(): Promise<void> {
  const built = await readFile(join(root, 'node_modules/@tapjs/test/test-built/dist/esm/index.js'), 'utf8')
  if (/@tapjs\/(typescript|mock)\b/.test(built)) {
    execFileSync(process.execPath, [tapProgram, 'build'], { cwd: root, stdio: 'inherit' })
  }
}

async function runTap(postgres: TestServer): Promise<number> {
  await buildTap()
  // Unpacks Chromium, which several test files at once would do into the same files.
  await sparticuz.executablePath()
  const bundles = await bundleDependencies(cache)
  const withoutHooks = pathToFileURL(join(import.meta.dirname, 'without-hooks.ts')).href
  const tap = spawn(
    process.execPath,
    [tapProgram, ...(postgres.hasFewConnections ? ['--jobs=1'] : []), ...tapArguments],
    {
      cwd: root,
      stdio: ['inherit', process.stdout.isTTY ? 'inherit' : 'pipe', 'inherit'],
      env: {
        ...process.env,
        NODE_OPTIONS: `--import=${withoutHooks} --import=${bundles}`,
        ACCEPTED_TEST_BUNDLES: bundles,
        // The tests start hundreds of processes that load the same modules.
        NODE_COMPILE_CACHE: cache,
      },
    },
  )
  // The terminal also sends SIGINT to tap. This process waits until tap has ended, and then stops Postgres.
  process.on('SIGINT', () => {})
  process.on('SIGTERM', () => tap.kill('SIGTERM'))
  const ended = once(tap, 'close')
  if (tap.stdout) await printWithFailures(tap.stdout)
  const [code] = await ended
  return code ?? 1
}

/** Prints the output of tap, and at its end all failures again, because a log may keep only the end. */
async function printWithFailures(output: Readable): Promise<void> {
  const failures: string[] = []
  for await (const line of createInterface(output)) {
    console.log(line)
    if (/^\s*not ok (?!.*# (TODO|SKIP))/.test(line)) failures.push(line)
  }
  if (failures.length > 0) console.log(`# Failures:\n${failures.join('\n').replaceAll(/^/gm, '# ')}`)
}

async function run(postgres: TestServer): Promise<number> {
  process.env[adminUrlVariable] = postgres.url
  const template = new URL(postgres.url)
  template.pathname = `/${templateName()}`
  await makeTemplate(template.pathname.slice(1))
  if (!options['write-schema']) return runTap(postgres)
  await writeFile(schemaFile, await describeSchema(template.href))
  await writeReference(template.href)
  return 0
}

if (options.help) {
  console.log(help)
  execFileSync(process.execPath, [tapProgram, '--help'], { cwd: root, stdio: 'inherit' })
} else {
  const postgres = await (options.database ? useServer(String(options.database)) : startServer())
  try {
    process.exitCode = await run(postgres)
  } finally {
    await postgres.stop(process.exitCode === 0)
  }
}
