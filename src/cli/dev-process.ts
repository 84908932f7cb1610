import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'

/** A process that `accepted dev` runs. */
export interface DevProcess {
  name: string
  /** Resolves when the process has ended: to its exit code, its signal, or the error that kept it from starting. */
  ended: Promise<number | string>
  /** SIGKILL also kills the processes that it has started. */
  kill(signal: NodeJS.Signals): void
}

/** How long to wait for the last output of a process that has exited. */
const outputTimeoutMs = 1_000

/**
 * Starts a process and prints its output, each line with its name. The process gets its own process group, so that only
 * `accepted dev` receives a terminal's Ctrl-C. Its IPC channel closes when `accepted dev` dies, which makes it stop.
 */
export function startDevProcess(name: string, args: readonly string[], env: NodeJS.ProcessEnv): DevProcess {
  const child = spawn(process.execPath, [...process.execArgv, ...args], {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    env,
  })
  printOutput(name, child)
  return {
    name,
    ended: waitForEnd(child),
    kill: (signal) => void (signal === 'SIGKILL' ? killGroup(child) : child.kill(signal)),
  }
}

async function waitForEnd(child: ChildProcess): Promise<number | string> {
  // A process that it has started may keep its output open.
  const printed = new Promise((resolve) => child.once('close', resolve))
  try {
    const [code, signal] = await once(child, 'exit')
    await Promise.race([printed, delay(outputTimeoutMs)])
    return code ?? signal
  } catch (error) {
    return (error as Error).message
  }
}

function killGroup({ pid, exitCode, signalCode }: ChildProcess): void {
  if (pid && exitCode === null && signalCode === null) process.kill(-pid, 'SIGKILL')
}

function printOutput(name: string, { stdout, stderr }: ChildProcess): void {
  for (const [from, to] of [
    [stdout, process.stdout],
    [stderr, process.stderr],
  ] as const) {
    if (from) createInterface(from).on('line', (line) => to.write(`${name.padEnd(7)} │ ${line}\n`))
  }
}
