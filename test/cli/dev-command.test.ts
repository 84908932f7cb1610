import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { ended, get, post } from '../support/client.ts'
import { createDatabase } from '../support/database.ts'
import { freePort, todosConfig } from '../support/program.ts'
import { until } from '../support/until.ts'
import { writeApp } from './app.ts'

// These tests start Postgres several times and Node many times.
t.setTimeout(240_000)

const product = join(import.meta.dirname, '../../src/cli/main.ts')
const fixture = join(import.meta.dirname, 'fixtures/main.ts')
/** With a DATABASE_URL, dev starts no Postgres. The fixture's API and worker do not connect to the database. */
const DATABASE_URL = 'postgres://nobody@127.0.0.1:1/nothing'

interface Dev {
  process: ChildProcess
  /** Resolves to the exit code. */
  closed: Promise<number | null>
  url: string
  workerUrl: string
  printed(): string
  /** Sends SIGINT to the whole process group, like Ctrl-C in a terminal. Returns `closed`. */
  interrupt(): Promise<number | null>
}

async function dataDirectory(t: Test): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'accepted-dev-'))
  await chmod(path, 0o755)
  t.teardown(() => rm(path, { recursive: true, force: true }))
  return path
}

/**
 * Starts `accepted dev` in a separate process group. With `fixture` as `main`, API and worker are minimal.
 *
 * @param runner a program and its arguments that run the command line after them
 */
async function startDev(
  t: Test,
  env: NodeJS.ProcessEnv,
  main = product,
  more: string[] = [],
  runner: string[] = [],
): Promise<Dev> {
  const [PORT, WORKER_PORT] = [String(await freePort()), String(await freePort())]
  const { DATABASE_URL: _, ...inherited } = process.env
  const args = ['--conditions=accepted-source', main, 'dev', '--config', todosConfig, ...more]
  const [program = '', ...programArgs] = [...runner, process.execPath, ...args]
  const child = spawn(program, programArgs, {
    detached: true,
    env: { ...inherited, PORT, WORKER_PORT, ...env },
  })
  let printed = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      printed += chunk
    })
  }
  const closed = once(child, 'close').then(([code]) => code)
  const interrupt = () => {
    if (child.exitCode === null && child.signalCode === null) process.kill(-(child.pid as number), 'SIGINT')
  }
  const dev: Dev = {
    process: child,
    closed,
    url: `http://127.0.0.1:${PORT}`,
    workerUrl: `http://127.0.0.1:${WORKER_PORT}`,
    printed: () => printed,
    interrupt() {
      interrupt()
      return closed
    },
  }
  t.teardown(async () => {
    // The first signal stops dev cleanly. A later signal kills API and worker.
    await until(() => {
      interrupt()
      return child.exitCode !== null || child.signalCode !== null
    })
    if (!t.passing()) t.comment(printed)
  })
  return dev
}

const isUp = async (url: string) => (await fetch(url).catch(() => undefined))?.ok ?? false

const ready = (dev: Dev) => until(() => dev.printed().includes('Ctrl-C stops everything'))

t.test(
  'dev starts Postgres, migrates it, and runs API and worker; Ctrl-C stops all of them and keeps the data',
  async (t) => {
    const DATA_DIR = await dataDirectory(t)
    const first = await startDev(t, { DATA_DIR })
    await ready(first)
    for (const part of [first.url, `${first.url}/docs`, first.workerUrl, 'postgres://', DATA_DIR, 'server.log']) {
      t.match(first.printed(), part)
    }
    const { body } = await post(`${first.url}/todos`, { title: 'Stay' })
    t.match(await ended(body.links.self), { status: 'succeeded' })
    t.equal(await first.interrupt(), 0)
    t.match(first.printed(), /stopping api and worker[\s\S]*stopping Postgres\n$/)
    t.notMatch(first.printed(), /error/i)
    t.same([await isUp(`${first.url}/health/live`), await isUp(`${first.workerUrl}/health/live`)], [false, false])

    const second = await startDev(t, { DATA_DIR })
    await ready(second)
    t.match((await get(`${second.url}/jobs/${body.id}`)).body, { status: 'succeeded' })
    const urlOf = ({ printed }: Dev) => /postgres:\/\/\S+/.exec(printed())?.[0]
    t.equal(urlOf(second), urlOf(first), 'a URL that was copied stays valid')
  },
)

t.test('dev prints each failed attempt with its stack, and when the job runs again', async (t) => {
  const app = await writeApp(t, {
    'operations.js': `
      import { defineOperation } from 'accepted'
      import Type from 'typebox'
      const route = { method: 'POST', url: '/words' }
      export const say = defineOperation({ name: 'word.say', route, input: Type.Object({}), retry: { limit: 1 } })`,
    'handlers.js': `
      import { defineHandlers } from 'accepted/worker'
      import * as operations from './operations.js'
      export default defineHandlers(operations, {
        'word.say': { perform: async () => { throw new Error('No luck') } },
      })`,
  })
  const DATABASE_URL = await createDatabase(t)
  const dev = await startDev(t, { DATABASE_URL }, product, ['--config', join(app, 'accepted.config.js')])
  await ready(dev)
  const { body } = await post(`${dev.url}/words`, {})
  t.match(await ended(body.links.self), { status: 'failed' })
  const what = (attempt: number) => `operation=word\\.say job=${body.id} attempt=${attempt} maxAttempts=2`
  const stack = '\\nworker  │     Error: No luck\\nworker  │         at .*handlers\\.js:5:'
  const failure = new RegExp(`worker  │ \\S+ ERROR Job failed; no attempts are left ${what(2)}.*${stack}`)
  await until(() => failure.test(dev.printed()))
  const retry = `worker  │ \\S+ INFO  Attempt failed; retrying in \\d+ s ${what(1)} error=.*No luck.*`
  t.match(dev.printed(), new RegExp(`${retry}\\nworker  │ .*${stack}`))
  t.match(dev.printed(), /api {4} │ \S+ POST \/words 202 /)
  t.equal(await dev.interrupt(), 0)
})

t.test('if a port is in use, dev prints one error line and starts nothing', async (t) => {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const { port } = server.address() as { port: number }
  const error = async (env: NodeJS.ProcessEnv) => {
    const dev = await startDev(
      t,
      { DATA_DIR: await dataDirectory(t), npm_config_user_agent: 'npm/11', ...env },
      fixture,
    )
    t.equal(await dev.closed, 1)
    return dev.printed()
  }
  const start = { npm_command: 'start', npm_lifecycle_event: 'start', npm_lifecycle_script: 'accepted dev' }
  for (const variable of ['PORT', 'WORKER_PORT']) {
    t.equal(
      await error({ ...start, [variable]: String(port) }),
      `error: Port ${port} is in use. Stop the program that listens on it, ` +
        `or choose another port: ${variable}=${port + 100} npm start\n`,
    )
  }
  const PORT = String(port)
  const command = `dev --config ${todosConfig}`
  for (const [env, used] of [
    [{ npm_command: 'exec', npm_lifecycle_event: 'npx' }, `npx accepted ${command}`],
    [{ ...start, npm_command: 'run', npm_lifecycle_event: 'dev' }, 'npm run dev'],
    [{ ...start, npm_lifecycle_event: 'accepted', npm_lifecycle_script: 'main' }, `npm run accepted -- ${command}`],
    [{ ...start, npm_config_user_agent: 'pnpm/10', npm_lifecycle_event: 'dev' }, 'pnpm run dev'],
    [{ npm_command: undefined, npm_lifecycle_event: undefined }, `accepted ${command}`],
  ] as const) {
    t.match(await error({ PORT, ...env }), `: PORT=${port + 100} ${used}\n`)
  }
})

t.test('if the data directory cannot be created, dev prints one error line', async (t) => {
  for (const DATA_DIR of ['/proc/x', '/proc/x/y', '/dev/null/x', '/proc']) {
    const dev = await startDev(t, { DATA_DIR })
    t.equal(await dev.closed, 1)
    t.match(dev.printed(), /^· Postgres\nerror: .*\/(?:proc|dev)\b.*\n$/, DATA_DIR)
  }
})

t.test('if API and worker have the same port, dev prints one error line', async (t) => {
  const port = String(await freePort())
  const dev = await startDev(t, { DATABASE_URL, PORT: port, WORKER_PORT: port }, fixture)
  t.equal(await dev.closed, 1)
  t.match(dev.printed(), new RegExp(`^error: PORT and WORKER_PORT are both ${port}\\. .*WORKER_PORT=\\d+ [^\n]+\n$`))
})

t.test('if a setting is invalid, dev prints one error line', async (t) => {
  const dev = await startDev(t, { PORT: 'http' })
  t.equal(await dev.closed, 1)
  t.match(dev.printed(), /^error: PORT='http' is invalid: it must be .*\n$/)
})

t.test('if the public URL is not an http URL, dev prints one error line', async (t) => {
  for (const url of ['http://a b', 'https://example.com/?x', 'ftp://x', 'http://u@x']) {
    const dev = await startDev(t, { PUBLIC_URL: url })
    t.equal(await dev.closed, 1)
    t.match(dev.printed(), /^error: PUBLIC_URL is invalid: it must be an http\(s\) URL .*\n$/)
  }
})

t.test('if another dev uses the data directory, dev prints one error line', async (t) => {
  const DATA_DIR = await dataDirectory(t)
  await ready(await startDev(t, { DATA_DIR }, fixture))
  const second = await startDev(t, { DATA_DIR }, fixture)
  t.equal(await second.closed, 1)
  t.match(second.printed(), /error: .*postgres is in use by the Postgres with pid \d+: .*\n$/)
})

t.test('if Ctrl-C is pressed while dev creates the cluster, dev stops cleanly', async (t) => {
  const DATA_DIR = await dataDirectory(t)
  const first = await startDev(t, { DATA_DIR }, fixture)
  // Once initdb has created a file, it has left the process group that gets the signal.
  await until(async () => (await readdir(DATA_DIR, { recursive: true })).some((path) => path.endsWith('PG_VERSION')))
  t.equal(await first.interrupt(), 0)
  t.equal(first.printed(), '· Postgres\n· stopping Postgres\n')
  t.same(await readdir(DATA_DIR), ['encryption-keys', 'postgres'], 'no incomplete cluster remains')
})

t.test('if the Postgres of DATABASE_URL does not answer, dev prints two lines', async (t) => {
  const dev = await startDev(t, { DATABASE_URL })
  t.equal(await dev.closed, 1)
  t.match(
    dev.printed(),
    /^· migrations\nmigrate │ error: Postgres does not answer .*\nerror: The migrations failed\. .* Unset it .*\n$/,
  )
})

t.test('Ctrl-C stops a migration that hangs', async (t) => {
  const dev = await startDev(t, { DATABASE_URL, FAULT: 'migrate hangs' }, fixture)
  await until(() => dev.printed().includes('migrate │ migrating'))
  t.equal(await dev.interrupt(), 0)
})

t.test('if the migration fails, dev stops, and says that it used DATABASE_URL', async (t) => {
  const dev = await startDev(t, { DATABASE_URL, FAULT: 'migrate fails' }, fixture)
  t.equal(await dev.closed, 1)
  t.match(
    dev.printed(),
    /DATABASE_URL is set, so dev uses that Postgres\. Unset it to let dev start one of its own\.\n$/,
  )
  t.notMatch(dev.printed(), 'API and worker')
})

t.test('dev treats two simultaneous signals, from the terminal and from npm, as one signal', async (t) => {
  const dev = await startDev(t, { DATABASE_URL, FAULT: 'lingers' }, fixture)
  await ready(dev)
  dev.interrupt()
  dev.interrupt()
  const lingering = await until(() => {
    const pids = [...dev.printed().matchAll(/lingering (\d+)/g)].map(([, pid]) => Number(pid))
    return pids.length === 2 && pids
  })
  for (const pid of lingering) process.kill(pid, 'SIGUSR2')
  t.equal(await dev.closed, 0)
  for (const name of ['api   ', 'worker']) t.match(dev.printed(), `${name}  │ drained`)
})

t.test('a second Ctrl-C kills API and worker', async (t) => {
  const dev = await startDev(t, { DATABASE_URL, FAULT: 'lingers' }, fixture)
  await ready(dev)
  await until(() => {
    dev.interrupt()
    return dev.process.exitCode !== null
  })
  t.equal(await dev.closed, 0)
  t.notMatch(dev.printed(), 'drained')
  t.same([await isUp(dev.url), await isUp(dev.workerUrl)], [false, false])
})

t.test('if dev is killed, API and worker end, and the next dev takes over the running Postgres', async (t) => {
  const DATA_DIR = await dataDirectory(t)
  const killed = await startDev(t, { DATA_DIR })
  await ready(killed)
  killed.process.kill('SIGKILL')
  await until(
    async () => !(await isUp(`${killed.url}/health/live`)) && !(await isUp(`${killed.workerUrl}/health/live`)),
  )
  const next = await startDev(t, { DATA_DIR }, fixture)
  await ready(next)
  t.equal(await next.interrupt(), 0)
})

t.test('if npm is stopped by its process id, which does not reach dev, dev stops', async (t) => {
  const env = { DATABASE_URL, npm_lifecycle_event: 'start' }
  // npm runs a script in a shell, and signals only the shell.
  const dev = await startDev(t, env, fixture, [], ['sh', '-c', '"$@"; exit', 'sh'])
  await ready(dev)
  dev.process.kill('SIGTERM')
  await dev.closed
  t.match(dev.printed(), /stopping api and worker\n$/)
  t.same([await isUp(dev.url), await isUp(dev.workerUrl)], [false, false])
})

t.test('with --in-process, API and worker run in one process and stop together', async (t) => {
  const DATA_DIR = await dataDirectory(t)
  const dev = await startDev(t, { DATA_DIR }, product, ['--in-process'])
  await ready(dev)
  t.equal((await children(dev.process.pid as number)).length, 1)
  t.match((await get(`${dev.workerUrl}/health/ready`)).body, { status: 'ready' })
  const { body } = await post(`${dev.url}/todos`, { title: 'In one' })
  t.match(await ended(body.links.self), { status: 'succeeded' })
  t.equal(await dev.interrupt(), 0)
  t.match(dev.printed(), /stopping api\n[\s\S]*stopping Postgres\n$/)
  t.notMatch(dev.printed(), /error/i)
})

t.test('if Postgres is killed, dev stops API and worker, and prints the reason', async (t) => {
  const DATA_DIR = await dataDirectory(t)
  const dev = await startDev(t, { DATA_DIR }, fixture)
  await ready(dev)
  const pid = Number.parseInt(await readFile(join(DATA_DIR, 'postgres/postmaster.pid'), 'utf8'), 10)
  process.kill(pid, 'SIGKILL')
  t.equal(await dev.closed, 1)
  t.match(dev.printed(), /error: Postgres ended unexpectedly\. Its log is .*server\.log\.\n/)
  t.same([await isUp(dev.url), await isUp(dev.workerUrl)], [false, false])
})

t.test('if the API or the worker is killed, dev says so and starts it again', async (t) => {
  const dev = await startDev(t, { DATABASE_URL }, fixture)
  await ready(dev)
  const [api, worker] = await children(dev.process.pid as number)
  for (const [name, pid] of Object.entries({ api, worker })) {
    process.kill(pid as number, 'SIGKILL')
    await until(() => dev.printed().includes(`· ${name} is ready again`))
    t.match(dev.printed(), `error: The ${name} process ended unexpectedly (SIGKILL). Its output is above.`)
    t.match(dev.printed(), `· starting ${name} again`)
  }
  t.same([await isUp(dev.url), await isUp(dev.workerUrl)], [true, true])
  t.equal((await children(dev.process.pid as number)).length, 2)
  t.equal(await dev.interrupt(), 0)
  t.equal(dev.printed().match(/ctrl-c stops everything/gi)?.length, 1)
})

t.test('if a process that was started again is never ready, dev stops', async (t) => {
  const marker = join(await dataDirectory(t), 'once')
  const dev = await startDev(t, { DATABASE_URL, FAULT: 'worker starts once', MARKER: marker }, fixture)
  await ready(dev)
  const [, worker] = await children(dev.process.pid as number)
  process.kill(worker as number, 'SIGKILL')
  t.equal(await dev.closed, 1)
  t.match(dev.printed(), /\(SIGKILL\)[\s\S]*error: The worker process ended unexpectedly \(exit code 3\)/)
  t.same([await isUp(dev.url), await isUp(dev.workerUrl)], [false, false])
})

t.test('if the worker ends before it is ready, dev prints the exit code of the worker', async (t) => {
  const dev = await startDev(t, { DATABASE_URL, FAULT: 'worker exits' }, fixture)
  t.equal(await dev.closed, 1)
  t.match(dev.printed(), 'error: The worker process ended unexpectedly (exit code 3).')
  t.equal(await isUp(dev.url), false)
})

t.test('with --watch, API and worker restart when a source file changes, also after a syntax error', async (t) => {
  const directory = await dataDirectory(t)
  const source = join(directory, 'operations/todo.ts')
  await mkdir(join(directory, 'node_modules'))
  await mkdir(join(directory, 'operations'))
  await writeFile(source, 'console.log("version", 1)')
  await writeFile(
    join(directory, 'accepted.config.ts'),
    "export default { operations: {}, handlers: './operations/todo.ts' }",
  )
  await writeFile(join(directory, 'package.json'), '{"type":"module"}')
  const env = { DATABASE_URL, CONFIG: join(directory, 'accepted.config.ts'), SOURCE: source }
  const dev = await startDev(t, env, fixture, ['--watch'])
  /** Waits for the next output after what was printed before. */
  let seen = 0
  const next = (text: string) =>
    until(() => {
      const index = dev.printed().indexOf(text, seen)
      seen = index === -1 ? seen : index + text.length
      return index !== -1
    })
  await next('worker  │ version 1')
  await next('Ctrl-C stops everything')
  await writeFile(join(directory, 'node_modules/index.js'), '')
  await writeFile(source, 'console.log("version", 2')
  await next('· operations/todo.ts changed\n')
  await next('SyntaxError')
  await next('· waiting for a change of the source files')
  await writeFile(join(directory, 'operations/new.sql'), 'select 1')
  await next('· operations/new.sql changed\n')
  await next('· migrations')
  await next('· waiting for a change of the source files')
  await mkdir(join(directory, 'more'))
  await writeFile(join(directory, 'more/words.ts'), '')
  await next('· more/words.ts changed\n')
  await next('· waiting for a change of the source files')
  await writeFile(source, 'console.log("version", 3)')
  await next('· operations/todo.ts changed\n')
  await next('│ version 3')
  await next('· ready\n')
  t.equal(await isUp(dev.url), true)
  await writeFile(join(directory, 'unused.mjs'), '')
  await writeFile(source, 'console.log("version", 4)')
  await next('· operations/todo.ts changed\n')
  await next('│ version 4')
  await next('· ready\n')
  t.equal(await dev.interrupt(), 0)
  t.equal(dev.printed().split('· migrations').length - 1, 2, 'only a change of SQL runs the migrations again')
  t.notMatch(dev.printed(), 'index.js')
  t.notMatch(dev.printed(), 'unused.mjs', 'nothing loads a new module')
})

/** Returns the process ids of the children of a process, oldest child first. */
async function children(pid: number): Promise<number[]> {
  const ps = spawn('ps', ['-o', 'pid=', '--ppid', String(pid), '--sort=pid'])
  let printed = ''
  ps.stdout.on('data', (chunk) => {
    printed += chunk
  })
  await once(ps, 'close')
  return printed.split('\n').map(Number).filter(Boolean)
}
