import { createServer } from 'node:net'
import { resolve as resolvePath } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { ConfigError, lastSeconds, loadConfig, readSettings, type Settings } from '../config.ts'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../db/embedded.ts'
import { EmbeddedPostgresError } from '../db/embedded-error.ts'
import { type Child, startChild } from './child.ts'
import { localUrl } from './local-url.ts'

/** A second Ctrl-C hastens; what npm and the terminal send together counts once. In milliseconds. */
const sameSignalWithin = 1_000
/** How long API and worker may take to be ready, in milliseconds. */
const readyWithin = 60_000
/** How long one answer to that question may take, in milliseconds. */
const answerWithin = 5_000
/** How often we look whether Postgres still runs, in milliseconds. */
const lookEvery = 2_000

/**
 * `accepted dev`: a Postgres of its own when DATABASE_URL is not set, migrations, API and worker as two processes, or in
 * one. When one of them ends by itself the others are stopped.
 *
 * @param main the program and its Node options come from this process; the path is that of the command line itself
 * @returns the exit code
 */
export async function dev(options: { config?: string; inProcess?: boolean }, main: string): Promise<number> {
  const settings = readSettings()
  const { path: config } = await loadConfig(options.config)
  const wish = stopWish()
  await assertPortsFree(settings)
  const postgres = settings.DATABASE_URL ? undefined : await startPostgres(settings, wish.asked)
  const children: Child[] = []
  const over = new AbortController()
  const start = (name: string, ...more: string[]) => {
    const child = startChild(name, [main, name, '--config', config, ...more], {
      // What runs well need not be told line by line.
      LOG_LEVEL: 'warn',
      ...process.env,
      DATABASE_URL: postgres?.url ?? settings.DATABASE_URL,
      DATA_DIR: postgres?.dataDir ?? settings.DATA_DIR,
    })
    children.push(child)
    return child
  }
  try {
    if (wish.asked.aborted) return 0
    step('migrations')
    const migrated = await Promise.race([start('migrate').ended, wish.promise])
    if (wish.asked.aborted) return 0
    if (migrated !== 0) return 1
    children.pop()
    step('API and worker')
    const parts = options.inProcess ? [start('api', '--with-worker')] : [start('api'), start('worker')]
    const died = Promise.race([...parts.map(diedBy), ...(postgres ? [postgresDied(postgres, over.signal)] : [])])
    const stopped = Promise.race([died, wish.promise])
    const ready = await becomeReady(settings, stopped)
    if (ready) console.log(describe(settings, postgres))
    const failure = ready === false ? 'API and worker did not become ready; what they printed is above.' : await stopped
    if (!failure) return 0
    console.error(`error: ${failure}`)
    return 1
  } finally {
    over.abort()
    await stopChildren(children, settings, wish)
    if (postgres) {
      step('stopping Postgres')
      await postgres.stop()
    }
  }
}

const step = (what: string) => console.log(`· ${what}`)

async function diedBy({ name, ended }: Child): Promise<string> {
  const how = await ended
  return `The ${name} process ended by itself (${typeof how === 'number' ? `exit code ${how}` : how}).`
}

async function postgresDied(postgres: EmbeddedPostgres, over: AbortSignal): Promise<string> {
  while (await postgres.isRunning()) await delay(lookEvery, undefined, { signal: over })
  return `Postgres ended by itself; its last words are in ${postgres.logFile}.`
}

/** The first signal asks for an orderly stop, a later one for a fast one. */
function stopWish() {
  const asked = new AbortController()
  const hastened = new AbortController()
  let first: number | undefined
  const ask = () => {
    first ??= performance.now()
    if (performance.now() - first > sameSignalWithin) hastened.abort()
    asked.abort()
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, ask)
  // Nobody reads on when the terminal is closed, and what runs is to be stopped all the same.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})
  const promise = new Promise<undefined>((resolve) => asked.signal.addEventListener('abort', () => resolve(undefined)))
  return { asked: asked.signal, hastened: hastened.signal, promise }
}

/** Undefined when it was interrupted because we are to stop. */
async function startPostgres(settings: Settings, asked: AbortSignal): Promise<EmbeddedPostgres | undefined> {
  step('Postgres')
  try {
    return await startEmbeddedPostgres({ dataDir: settings.DATA_DIR })
  } catch (error) {
    // A Ctrl-C may reach one of its programs before that has left our process group.
    if (asked.aborted && error instanceof EmbeddedPostgresError && error.code === 'interrupted') return undefined
    throw error
  }
}

async function assertPortsFree({ HOST, PORT, WORKER_PORT }: Settings): Promise<void> {
  await assertFree(HOST, PORT, 'PORT')
  await assertFree(HOST, WORKER_PORT, 'WORKER_PORT')
  if (PORT === WORKER_PORT) {
    throw new ConfigError(
      `PORT and WORKER_PORT are both ${PORT}; choose another: ${another('WORKER_PORT', PORT)} npm start`,
    )
  }
}

async function assertFree(host: string, port: number, variable: string): Promise<void> {
  if (port === 0) throw new ConfigError(`${variable}=0 is of no use here: choose a port.`)
  const server = createServer()
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => server.close(() => resolve()))
  }).catch(({ code }: NodeJS.ErrnoException) => {
    const reason =
      code === 'EADDRINUSE' ? `Port ${port} is taken; stop what listens there` : `Port ${port} cannot be used (${code})`
    throw new ConfigError(`${reason}, or choose another: ${another(variable, port)} npm start`)
  })
}

const another = (variable: string, port: number) => `${variable}=${port + 100 > 65_535 ? port - 100 : port + 100}`

/** True when both are ready; false when that took too long; undefined when they were stopped before. */
async function becomeReady(settings: Settings, stopped: Promise<unknown>): Promise<boolean | undefined> {
  const urls = [localUrl(settings), localUrl(settings, settings.WORKER_PORT)].map((url) => `${url}/health/ready`)
  const given = AbortSignal.timeout(readyWithin)
  for (;;) {
    const isReady = await Promise.race([Promise.all(urls.map(isUp)), stopped.then(() => undefined)])
    if (!isReady) return undefined
    if (isReady.every(Boolean)) return true
    if (given.aborted) return false
    await delay(50)
  }
}

async function isUp(url: string): Promise<boolean> {
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(answerWithin) })
    await answer.body?.cancel()
    return answer.ok
  } catch {
    return false
  }
}

function describe(settings: Settings, postgres: EmbeddedPostgres | undefined): string {
  const api = localUrl(settings)
  const lines = [
    ['API', api],
    ['Docs', `${api}/docs`],
    ['Worker', `${localUrl(settings, settings.WORKER_PORT)}/health/ready`],
    ...(postgres ? describePostgres(settings, postgres) : []),
  ]
  return `\n${lines.map(([what, where]) => `  ${what?.padEnd(9)} ${where}`).join('\n')}\n\n  Ctrl-C stops everything.\n`
}

function describePostgres({ DATA_DIR }: Settings, { url, dataDir, logFile }: EmbeddedPostgres): string[][] {
  const asked = resolvePath(DATA_DIR)
  const reason = dataDir === asked ? '' : ` (the user postgres cannot enter ${asked})`
  return [
    ['Postgres', url],
    ['Log', logFile],
    ['Data', `${dataDir}${reason}`],
  ]
}

async function stopChildren(
  children: readonly Child[],
  { GRACE_SECONDS }: Settings,
  { hastened }: { hastened: AbortSignal },
): Promise<void> {
  if (children.length === 0) return
  // A little more than they take at most.
  const stopWithin = GRACE_SECONDS + lastSeconds + 1
  step(`stopping ${children.map(({ name }) => name).join(' and ')}`)
  const kill = () => {
    for (const child of children) child.kill('SIGKILL')
  }
  const timer = setTimeout(() => {
    console.error(`error: They did not stop within ${stopWithin} seconds, and are killed.`)
    kill()
  }, stopWithin * 1000)
  hastened.addEventListener('abort', kill)
  if (hastened.aborted) kill()
  for (const child of children) child.kill('SIGTERM')
  await Promise.all(children.map(({ ended }) => ended))
  clearTimeout(timer)
}
