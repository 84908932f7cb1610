import { createServer } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { ConfigError, loadConfig, readSettings, type Settings } from '../config.ts'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../db/embedded.ts'
import { type Child, startChild } from './child.ts'

/** How long API and worker may take to stop, in milliseconds. */
const stopWithin = 20_000
/** A second Ctrl-C hastens; what npm and the terminal send together counts once. In milliseconds. */
const sameSignalWithin = 1_000
/** How long API and worker may take to be ready, in milliseconds. */
const readyWithin = 60_000

/**
 * `accepted dev`: a Postgres of its own when DATABASE_URL is not set, migrations, API and worker as two processes.
 *
 * @param main the program and its Node options come from this process; the path is that of the command line itself
 * @returns the exit code
 */
export async function dev(options: { config?: string }, main: string): Promise<number> {
  const settings = readSettings()
  const { path: config } = await loadConfig(options.config)
  const wish = stopWish()
  await assertFree(settings.HOST, settings.PORT, 'PORT')
  await assertFree(settings.HOST, settings.WORKER_PORT, 'WORKER_PORT')
  const postgres = settings.DATABASE_URL ? undefined : await startPostgres(settings)
  const children: Child[] = []
  try {
    const start = (name: string) => {
      const child = startChild(name, [main, name, '--config', config], {
        // What runs well need not be told line by line.
        LOG_LEVEL: 'warn',
        ...process.env,
        DATABASE_URL: postgres?.url ?? settings.DATABASE_URL,
        DATA_DIR: postgres?.dataDir ?? settings.DATA_DIR,
      })
      children.push(child)
      return child
    }
    if (wish.asked.aborted) return 0
    step('migrations')
    const migrated = await start('migrate').ended
    if (migrated !== 0) return 1
    children.pop()
    if (wish.asked.aborted) return 0
    step('API and worker')
    const died = Promise.race([start('api'), start('worker')].map(diedBy))
    if (!(await Promise.race([ready(settings, wish.asked), died.then(() => false)]))) {
      if (wish.asked.aborted) return 0
      console.error('error: API and worker did not become ready; what they printed is above.')
      return 1
    }
    console.log(describe(settings, postgres))
    const death = await Promise.race([died, wish.promise])
    if (!death) return 0
    console.error(`error: ${death}`)
    return 1
  } finally {
    await stopChildren(children, wish)
    if (postgres) {
      step('stopping Postgres')
      await postgres.stop()
    }
  }
}

const step = (what: string) => console.log(`· ${what}`)

const diedBy = async ({ name, ended }: Child) => `The ${name} process ended by itself (${await ended}).`

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
  process.on('SIGINT', ask)
  process.on('SIGTERM', ask)
  const promise = new Promise<undefined>((resolve) => asked.signal.addEventListener('abort', () => resolve(undefined)))
  return { asked: asked.signal, hastened: hastened.signal, promise }
}

async function startPostgres(settings: Settings): Promise<EmbeddedPostgres> {
  step('Postgres')
  return startEmbeddedPostgres({ dataDir: settings.DATA_DIR })
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
    throw new ConfigError(`${reason}, or choose another: ${variable}=${port + 100} npm start`)
  })
}

const urlOf = ({ HOST, PORT }: Settings, port = PORT) => `http://${HOST.includes(':') ? `[${HOST}]` : HOST}:${port}`

async function ready(settings: Settings, stopping: AbortSignal): Promise<boolean> {
  const deadline = performance.now() + readyWithin
  const urls = [urlOf(settings), urlOf(settings, settings.WORKER_PORT)]
  while (performance.now() < deadline && !stopping.aborted) {
    const answers = await Promise.all(urls.map((url) => fetch(`${url}/health/ready`).catch(() => undefined)))
    if (answers.every((answer) => answer?.ok)) return true
    await delay(50)
  }
  return false
}

function describe(settings: Settings, postgres: EmbeddedPostgres | undefined): string {
  const api = urlOf(settings)
  const lines = [
    ['API', api],
    ['Docs', `${api}/docs`],
    ['Worker', `${urlOf(settings, settings.WORKER_PORT)}/health/ready`],
    ...(postgres
      ? [
          ['Postgres', postgres.url],
          ['Data', postgres.dataDir],
        ]
      : []),
  ]
  return `\n${lines.map(([what, where]) => `  ${what?.padEnd(9)} ${where}`).join('\n')}\n\n  Ctrl-C stops everything.\n`
}

async function stopChildren(children: readonly Child[], { hastened }: { hastened: AbortSignal }): Promise<void> {
  if (children.length === 0) return
  step('stopping API and worker')
  const kill = () => {
    for (const child of children) child.kill('SIGKILL')
  }
  const timer = setTimeout(kill, stopWithin)
  hastened.addEventListener('abort', kill)
  if (hastened.aborted) kill()
  for (const child of children) child.kill('SIGTERM')
  await Promise.all(children.map(({ ended }) => ended))
  clearTimeout(timer)
}
