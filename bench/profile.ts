/**
 * Draws where an API and a worker under load spend their time, as flame graphs: `npm run bench:profile [-- --out <directory>]`.
 */
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { createNote } from './app/operations.ts'
import { fill } from './contenders/drain-accepted.ts'
import { untilNone } from './contenders/drain-process.ts'
import { drawFlames, framesOf, widest } from './core/flame.ts'
import { inspectable, profileWhile } from './core/inspector.ts'
import { freePort, startAccepted, stopProcesses } from './core/process.ts'
import { query, startServer } from './core/server.ts'
import { closedLoop } from './core/wrk.ts'

const { values } = parseArgs({ options: { out: { type: 'string' } } })
const out = resolve(values.out ?? join(import.meta.dirname, 'profiles'))
const jobs = 60_000
const seconds = 10
const connections = 256
const shown = 12

const directory = await mkdtemp(join(tmpdir(), 'accepted-bench-'))
// As root, Postgres runs as another user, who must come in.
await chmod(directory, 0o755)
const server = await startServer(join(directory, 'server'), join(import.meta.dirname, 'app/migrations'))
try {
  await mkdir(out, { recursive: true })
  const post = ({ url }: { url: string }) => closedLoop(`${url}/notes`, connections, seconds)
  await draw('api', `API, ${connections} connections that POST`, { warmUp: post, load: post })
  const drain = async (_worker: object, databaseUrl: string) => {
    await query(databaseUrl, "update pgboss.job set start_after = now() where name = 'note.create'")
    await untilNone(databaseUrl, "select from pgboss.job where state < 'completed' limit 1", 120)
  }
  await draw('worker', `Worker, ${jobs.toLocaleString('en-US')} jobs to settle`, {
    prepare: (databaseUrl) => fill(databaseUrl, createNote, jobs, tomorrow()),
    load: drain,
  })
} finally {
  await stopProcesses()
  await server.stop()
  await rm(directory, { recursive: true, force: true })
}

interface Story {
  prepare?(databaseUrl: string): Promise<void>
  /** The first seconds belong to the compiler. */
  warmUp?(process: { url: string }): Promise<unknown>
  load(process: { url: string }, databaseUrl: string): Promise<unknown>
}

async function draw(command: 'api' | 'worker', title: string, { prepare, warmUp, load }: Story): Promise<void> {
  console.error(title)
  const databaseUrl = await server.createOurs(`profile_${command}`)
  await prepare?.(databaseUrl)
  const inspector = await freePort()
  const process = await startAccepted(command, directory, { DATABASE_URL: databaseUrl, ...inspectable(inspector) })
  await warmUp?.(process)
  const profile = await profileWhile(process.pid, inspector, () => load(process, databaseUrl))
  await process.stop()
  await server.dropDatabase(`profile_${command}`)
  const root = framesOf(profile, resolve(import.meta.dirname, '..'))
  await writeFile(join(out, `${command}.svg`), drawFlames(root, title))
  for (const { name, part } of widest(root, shown)) console.log(`${(part * 100).toFixed(1).padStart(5)} %  ${name}`)
}

function tomorrow(): Date {
  return new Date(Date.now() + 24 * 60 * 60 * 1000)
}
