import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Test } from 'tap'
import { until } from './until.ts'

const root = join(import.meta.dirname, '../..')
const main = join(root, 'src/cli/main.ts')

/** The configuration of the example app. */
export const todosConfig = join(root, 'examples/todos/accepted.config.ts')

/** A process of the product. */
export interface Program {
  process: ChildProcess
  /** Where it serves: the API, or the worker's health. */
  url: string
  /** What it has printed so far. */
  output(): string
  /** Sends a signal and waits for the end. */
  end(signal?: NodeJS.Signals): Promise<number | null>
}

export interface ProgramOptions {
  config?: string
  databaseUrl: string
  env?: NodeJS.ProcessEnv
  args?: string[]
}

// Below the range that the kernel gives ports from, so that nobody else is given it before it is used; and each of the
// test files that run at the same time has ports of its own. Above 10080, which fetch refuses (Fetch Standard, "bad port").
const portsPerJob = 2_500
const firstPort = 11_000 + (Number(process.env.TAP_JOB_ID ?? 0) % 8) * portsPerJob
let nextPort = Math.floor(Math.random() * portsPerJob)

/** A port that was free a moment ago. */
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

/** Starts `accepted api` or `accepted worker` and waits until it is ready; it is killed with the test. */
export async function start(t: Test, command: 'api' | 'worker', options: ProgramOptions): Promise<Program> {
  const port = await freePort()
  const args = [command, '--config', options.config ?? todosConfig, ...(options.args ?? [])]
  const child = spawn(process.execPath, ['--conditions=accepted-source', main, ...args], {
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    env: {
      ...process.env,
      DATABASE_URL: options.databaseUrl,
      [command === 'api' ? 'PORT' : 'WORKER_PORT']: String(port),
      LOG_LEVEL: 'warn',
      ...options.env,
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
    if (child.exitCode !== null || child.signalCode !== null) throw new Error(`${command} ended: ${program.output()}`)
    return (await fetch(`${program.url}/health/ready`).catch(() => undefined))?.ok
  }).catch((cause) => {
    throw new Error(`${command} does not become ready; it printed: ${program.output()}`, { cause })
  })
  return program
}
