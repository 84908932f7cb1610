import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Test } from 'tap'
import { asRole } from './database.ts'
import { until } from './until.ts'

const root = join(import.meta.dirname, '../..')
const main = join(root, 'src/cli/main.ts')

/** The configuration of the example app. */
export const todosConfig = join(root, 'examples/todos/accepted.config.ts')

/** A running process of `accepted api` or `accepted worker`. */
export interface Program {
  process: ChildProcess
  /** The URL of the API, or of the worker's health server. */
  url: string
  /** Returns everything printed so far. */
  output(): string
  /** Sends a signal and waits for the exit. Resolves to the exit code, or to null if a signal ended the process. */
  end(signal?: NodeJS.Signals): Promise<number | null>
}

export interface ProgramOptions {
  config?: string
  databaseUrl: string
  env?: NodeJS.ProcessEnv
  args?: string[]
}

// The ports lie below the kernel's ephemeral range, so the kernel assigns none of them to another process. The ports
// also lie above 10080, the highest port that fetch refuses (Fetch Standard, "bad port"). Test files that run at the
// same time use separate ranges.
const portsPerJob = 2_500
const firstPort = 11_000 + (Number(process.env.TAP_JOB_ID ?? 0) % 8) * portsPerJob
let nextPort = Math.floor(Math.random() * portsPerJob)

/** Finds a port that is free now. It does not reserve the port. */
export async function freePort(): Promise<number> {
  const port = firstPort + (nextPort++ % portsPerJob)
  const server = createServer().listen(port, '127.0.0.1')
  try {
    await once(server, 'listening')
  } catch {
    return freePort()
  }
  server.close()
  await once(server, 'close')
  return port
}

/** Starts `accepted api` or `accepted worker` and waits until it is ready. The process is killed when the test ends. */
export async function start(t: Test, command: 'api' | 'worker', options: ProgramOptions): Promise<Program> {
  const port = await freePort()
  const role = options.args?.includes('--with-worker') ? 'api --with-worker' : command
  const args = [command, '--config', options.config ?? todosConfig, ...(options.args ?? [])]
  const child = spawn(process.execPath, ['--conditions=accepted-source', main, ...args], {
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    env: {
      ...process.env,
      DATABASE_URL: asRole(options.databaseUrl, role),
      [command === 'api' ? 'PORT' : 'WORKER_PORT']: String(port),
      LOG_LEVEL: process.env.LOG_LEVEL ?? 'warn',
      ...options.env,
      ...(options.env?.DATABASE_LISTEN_URL && {
        DATABASE_LISTEN_URL: asRole(options.env.DATABASE_LISTEN_URL, role),
      }),
    },
  })
  const lines: string[] = []
  for (const stream of [child.stdout, child.stderr]) {
    if (stream) createInterface(stream).on('line', (line) => lines.push(line))
  }
  const closed = once(child, 'close')
  const program: Program = {
    process: child,
    url: `http://127.0.0.1:${port}`,
    output: () => lines.join('\n'),
    async end(signal = 'SIGTERM') {
      child.kill(signal)
      await closed
      return child.exitCode
    },
  }
  t.teardown(async () => {
    if (child.exitCode === null && child.signalCode === null) await program.end('SIGKILL')
    if (!t.passing()) t.comment(`${command} printed:\n${program.output()}`)
  })
  await until(async () => {
    if (child.exitCode !== null || child.signalCode !== null) throw new Error(`${command} exited: ${program.output()}`)
    return (await fetch(`${program.url}/health/ready`).catch(() => undefined))?.ok
  }).catch((cause) => {
    throw new Error(`${command} did not become ready; it printed: ${program.output()}`, { cause })
  })
  return program
}
