import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import ts from 'typescript-5'
import { readSettings, requireDatabaseUrl } from '../../src/settings.ts'
import { run } from '../support/command.ts'
import { freePort } from '../support/program.ts'
import { until } from '../support/until.ts'
import { writeApp } from './app.ts'

const root = join(import.meta.dirname, '../..')
const main = join(root, 'src/cli/main.ts')
const DATABASE_URL = 'postgres://ann@127.0.0.1:1/none'

t.test('--version prints the version', async (t) => {
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'))
  t.same(await run(['--version']), { code: 0, out: `${version}\n`, err: '' })
})

t.test('an old version of Node.js gets one sentence', async (t) => {
  const preload = "data:text/javascript,Object.defineProperty(process.versions,'node',{value:'20.11.1'})"
  const { code, out, err } = await run(['api'], { NODE_OPTIONS: `--import=${preload}` })
  t.same([code, out], [1, ''])
  t.match(
    err,
    /^error: accepted needs Node\.js 24; this is 20\.11\.1\. Install .* `npm install --save-dev node@24`\.\n$/,
  )
  const { engines } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'))
  t.equal(engines.node, '>=24')
})

t.test('an old version of Node.js gets the same sentence from the modules of the package', async (t) => {
  for (const module of ['accepted', 'accepted/worker', 'accepted/adapters', 'accepted/http']) {
    const code = "Object.defineProperty(process.versions, 'node', { value: '20.11.1' }); await import(process.argv[1])"
    const args = ['--conditions=accepted-source', '--input-type=module', '--eval', code, module]
    const { status, stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' })
    t.equal(status, 1)
    t.match(stderr, /\n\[?Error: accepted needs Node\.js 24; this is 20\.11\.1\. Install /)
  }
})

t.test('a module that defines operations loads no HTTP server', async (t) => {
  const code = `import module from 'node:module'
    const urls = []
    module.registerHooks({
      resolve(specifier, context, next) {
        const resolved = next(specifier, context)
        urls.push(resolved.url)
        return resolved
      },
    })
    await import('accepted')
    console.log(JSON.stringify(urls))`
  const args = ['--conditions=accepted-source', '--input-type=module', '--eval', code]
  const { stdout } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' })
  const urls: string[] = JSON.parse(stdout)
  t.ok(urls.some((url) => url.endsWith('/src/index.ts')))
  t.same(
    urls.filter((url) => /\/src\/(http|accept|watch|jobs|db)\//.test(url)).map((url) => url.replace(/^.*\/src\//, '')),
    ['http/accepted.ts', 'http/jwt.ts'],
  )
})

const loadedBy: Readonly<Record<string, readonly string[]>> = {
  'cli/main.ts': ['../primitives/node-version.ts', './exit-on-signal.ts', './program.ts'],
  'cli/exit-on-signal.ts': ['node:os'],
  'primitives/node-version.ts': [],
}

t.test('an old version of Node.js can load what checks the version', async (t) => {
  // Before the check, only these files are loaded.
  for (const file of ['cli/main.ts', 'cli/exit-on-signal.ts', 'primitives/node-version.ts']) {
    const source = await readFile(join(root, 'src', file), 'utf8')
    const options = { target: ts.ScriptTarget.ESNext, module: ts.ModuleKind.ESNext }
    const { outputText } = ts.transpileModule(source, { compilerOptions: options })
    const down = ts.transpileModule(source, { compilerOptions: { ...options, target: ts.ScriptTarget.ES2022 } })
    t.equal(down.outputText, outputText, 'the syntax is that of ES2022')
    const imports = [...source.matchAll(/(?:from|import\() ?'([^']+)'/g)].map(([, name]) => name)
    t.same(imports.sort(), loadedBy[file])
  }
})

/** An app whose configuration says that it is loaded, and then never ends loading. */
const hangingApp = (t: Test) =>
  writeApp(t, {
    'accepted.config.js': "console.log('loading'); setInterval(() => {}, 1000); await new Promise(() => {})",
  })

async function startCommand(t: Test, command: string, config: string, wrapper: readonly string[] = []) {
  const [file = '', ...args] = [...wrapper, process.execPath, '--conditions=accepted-source', main, command]
  const child = spawn(file, [...args, '--config', config], {
    env: { ...process.env, DATABASE_URL, PORT: String(await freePort()), WORKER_PORT: String(await freePort()) },
    detached: true,
  })
  t.teardown(() => {
    if (child.exitCode === null && child.signalCode === null) process.kill(-(child.pid as number), 'SIGKILL')
  })
  let printed = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      printed += chunk
    })
  }
  return { child, closed: once(child, 'close'), printed: () => printed }
}

t.test('SIGTERM ends a command that is still loading the app', async (t) => {
  const config = join(await hangingApp(t), 'accepted.config.js')
  for (const command of ['api', 'worker', 'migrate', 'dev']) {
    const { child, closed, printed } = await startCommand(t, command, config)
    await until(() => printed().includes('loading'))
    child.kill('SIGTERM')
    t.same(await closed, [143, null], command)
  }
})

const canUnshare = await new Promise<boolean>((resolve) => {
  spawn('unshare', ['--pid', '--fork', '--kill-child', 'true'])
    .once('error', () => resolve(false))
    .once('close', (code) => resolve(code === 0))
})

t.test('SIGTERM ends a command that is process 1 and still loads the app', { skip: !canUnshare }, async (t) => {
  const config = join(await hangingApp(t), 'accepted.config.js')
  const wrapper = ['unshare', '--pid', '--fork', '--kill-child']
  const { child, closed, printed } = await startCommand(t, 'worker', config, wrapper)
  await until(() => printed().includes('loading'))
  // unshare ignores SIGTERM while it waits for its child, which has the id 1 in its own namespace.
  const children = await readFile(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8')
  process.kill(Number(children), 'SIGTERM')
  t.same(await closed, [143, null])
})

t.test('the listener to SIGTERM exists before anything else is loaded', async (t) => {
  const config = await writeApp(t, {
    'accepted.config.js': 'console.log(process.listenerCount("SIGTERM")); process.exit()',
  })
  const { out } = await run(['api', '--config', join(config, 'accepted.config.js')], { DATABASE_URL })
  t.equal(out, '1\n')
})

/** Reads the settings from an environment, and returns the message about a wrong one. */
function messageFor(env: NodeJS.ProcessEnv): string {
  try {
    readSettings(env)
    return ''
  } catch (error) {
    return (error as Error).message
  }
}

t.test('a wrong setting is reported with the possible values and an example', async (t) => {
  for (const [variable, value, message] of [
    ['LOG_LEVEL', 'loud', /must be one of fatal, error, warn, info, debug, trace, silent .*Example: LOG_LEVEL=info/],
    ['LOG_LEVEL', 'Warning', /Example: LOG_LEVEL=warn$/],
    ['LOG_LEVEL', '"info"', /Remove the quotes around the value\. Example: LOG_LEVEL=info$/],
    ['PORT', 'http', /must be an integer from 0 to 65535 .*Example: PORT=3000/],
    ['PORT', '70000', /must be an integer from 0 to 65535/],
    ['PORT', '3000.5', /must be an integer from 0 to 65535/],
    ['PORT', 'true', /must be an integer from 0 to 65535/],
    ['PORT', '0x10', /must be an integer from 0 to 65535/],
    ['GRACE_SECONDS', '1.5', /must be an integer from 0 to 86400/],
    ['GRACE_SECONDS', '15s', /must be an integer from 0 to 86400/],
    ['RATE_LIMIT', '-1', /must be an integer of at least 0 .*Example: RATE_LIMIT=60000/],
    ['RATE_LIMIT', '1.5', /must be an integer of at least 0/],
    ['HOST', 'http://127.0.0.1', /must be an IP address or a host name, without scheme and port .*HOST=127\.0\.0\.1/],
    ['HOST', '127.0.0.1:3000', /without scheme and port/],
    ['HOSTS', 'http://ann:pa55@example.com', /^HOSTS='http:\/\/\*\*\*@example\.com' is invalid/],
    ['WEBHOOK_ALLOW', 'home', /list of IP addresses or networks .*Example: WEBHOOK_ALLOW=10\.1\.2\.3,10\.2\.0\.0\/16/],
    ['PUBLIC_URL', 'https://ann:pa55@example.com', /without credentials, query and fragment/],
    ['DATABASE_URL', 'localhost/db', /must be a URL that starts with postgres:\/\/.*Example: DATABASE_URL=postgres:/],
    ['DATABASE_URL', 'mysql://ann:pa55@db/x', /starts with postgres:\/\/, not with mysql:\/\//],
    ['DATABASE_URL', '"postgres://ann:pa55@db/x"', /Remove the quotes around the value/],
    ['DATABASE_URL', 'postgres://ann:pa55#w@[db/x', /percent-encoded/],
    ['DATABASE_URL', 'postgres://ann:12/pa55@db/x', /percent-encoded/],
    ['DATABASE_URL', 'postgres://ann:12#pa55@db/x', /percent-encoded/],
    ['DATABASE_URL', 'postgres://ann:12?pa55@db/x', /percent-encoded/],
    ['DATABASE_URL', 'postgres://ann:pa55@db:99999/x', /must have a port from 1 to 65535/],
    ['DATABASE_URL', 'postgres://ann:pa55@one,two/x', /must name one host/],
    ['DATABASE_URL', 'postgres://ann:pa55@db/x?sslmode=on', /sslmode: disable, prefer, require, verify-ca/],
  ] as const) {
    const text = messageFor({ [variable]: value })
    t.ok(text.startsWith(variable), text)
    t.match(text, message)
    t.notMatch(text, /pa55|\n/)
  }
})

t.test('spaces around a value are ignored, and a blank value is not set', async (t) => {
  t.match(readSettings({ PORT: ' 4000\n', LOG_LEVEL: ' warn ', HOST: ' ' }), {
    ...{ PORT: 4000, LOG_LEVEL: 'warn', HOST: '127.0.0.1' },
  })
  t.match(readSettings({ DATABASE_URL: 'postgres://ann:p%40@[::1]:5432/db\n' }), {
    DATABASE_URL: 'postgres://ann:p%40@[::1]:5432/db',
  })
  for (const url of ['postgres://ann@/db?host=/tmp', 'postgresql://db/x?user=ann@server', 'POSTGRES://a@b/c']) {
    t.equal(readSettings({ DATABASE_URL: url }).DATABASE_URL, url)
  }
})

t.test('if DATABASE_URL is not set, a variable with a similar name is named', async (t) => {
  const missing = () => requireDatabaseUrl(readSettings({}), { DATABSE_URL: 'postgres://ann:pa55@db/x' })
  t.throws(missing, /^DATABASE_URL is not set, but DATABSE_URL is\. Set it to postgres:/)
})
