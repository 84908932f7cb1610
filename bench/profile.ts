/** Draws flame graphs of an API and a worker under load. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { createNote } from './app/operations.ts'
import { fill } from './contenders/drain-accepted.ts'
import { waitUntilEmpty } from './contenders/drain-process.ts'
import { parseOrExit } from './core/command-line.ts'
import { drawFlames, toFrames, topFunctions } from './core/flame.ts'
import { inspectable, profileWhile } from './core/inspector.ts'
import { freePort, startAccepted, stopProcesses } from './core/process.ts'
import { log } from './core/progress.ts'
import { query, type Server, startServer } from './core/server.ts'
import { withWorkspace } from './core/workspace.ts'
import { closedLoop } from './core/wrk.ts'

const drainedJobs = 60_000
const drainTimeoutSeconds = 120
const loadSeconds = 10
const connections = 256
const maxPrintedFunctions = 12

const usage = `Usage: npm run bench:profile -- [options]

Profiles the API while ${connections} connections send POSTs, and a worker that settles
${drainedJobs.toLocaleString('en-US')} jobs. Draws a flame graph of each, and prints the functions that use the most CPU time.

  --out <dir>      directory of the flame graphs; default bench/out/profiles
  --help           print this help`

interface ProfiledProcess {
  command: 'api' | 'worker'
  title: string
  prepare?(databaseUrl: string): Promise<void>
  /** Runs before the profile starts, because V8 compiles code in the first seconds. */
  warmUp?(url: string): Promise<unknown>
  load(url: string, databaseUrl: string): Promise<unknown>
}

const post = (url: string) => closedLoop(`${url}/notes`, connections, loadSeconds)

const profiled: ProfiledProcess[] = [
  { command: 'api', title: `API, POSTs on ${connections} connections`, warmUp: post, load: post },
  {
    command: 'worker',
    title: `Worker, drain of ${drainedJobs.toLocaleString('en-US')} jobs`,
    prepare: (databaseUrl) => fill(databaseUrl, createNote, drainedJobs, { runAt: new Date(Date.now() + 86_400_000) }),
    load: async (_url, databaseUrl) => {
      await query(databaseUrl, "update accepted_queue.job set start_after = now() where name = 'note.create'")
      await waitUntilEmpty(
        databaseUrl,
        "select from accepted_queue.job where state < 'completed' limit 1",
        drainTimeoutSeconds,
      )
    },
  },
]

async function profile(
  { command, title, prepare, warmUp, load }: ProfiledProcess,
  { server, directory, out }: { server: Server; directory: string; out: string },
): Promise<void> {
  log(title)
  const databaseUrl = await server.createOurs(`profile_${command}`)
  await prepare?.(databaseUrl)
  const inspector = await freePort()
  const process = await startAccepted(command, directory, { DATABASE_URL: databaseUrl, ...inspectable(inspector) })
  await warmUp?.(process.url)
  const recorded = await profileWhile(process.pid, inspector, () => load(process.url, databaseUrl))
  await process.stop()
  await server.dropDatabase(`profile_${command}`)
  const root = toFrames(recorded, resolve(import.meta.dirname, '..'))
  const file = join(out, `${command}.svg`)
  await writeFile(file, drawFlames(root, title))
  console.log(`${title}: ${file}`)
  for (const { name, share } of topFunctions(root, maxPrintedFunctions))
    console.log(`${(share * 100).toFixed(1).padStart(5)} %  ${name}`)
}

const out = parseOrExit('bench:profile', usage, () => {
  const { values } = parseArgs({ options: { out: { type: 'string' }, help: { type: 'boolean', default: false } } })
  return values.help ? undefined : resolve(values.out ?? join(import.meta.dirname, 'out/profiles'))
})

await withWorkspace(async ({ directory, onClose }) => {
  await mkdir(out, { recursive: true })
  const server = await startServer(join(directory, 'server'), join(import.meta.dirname, 'app/migrations'))
  onClose(() => server.stop())
  onClose(stopProcesses)
  for (const one of profiled) await profile(one, { server, directory, out })
})
