import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { createLogFormat } from '../primitives/log-format.ts'

/** A process that `accepted dev` runs. */
export interface DevProcess {
  name: string
  /** Resolves to the exit code or the signal when the process ends, or to the error message if it cannot start. */
  ended: Promise<number | string>
  /** Sends a signal to the process. SIGKILL is also sent to its child processes. */
  kill(signal: NodeJS.Signals): void
}

/** How long to wait for the last output of a process that has exited. */
const outputTimeoutMs = 1_000

/**
 * Starts a process, and prints its name before each line of its output. The process gets its own process group, so that
 * Ctrl-C in the terminal reaches only `accepted dev`. The process stops when its IPC channel closes. The channel also
 * closes when `accepted dev` is killed.
 */
export function startDevProcess(name: string, args: readonly string[], env: NodeJS.ProcessEnv): DevProcess {
  const child = spawn(process.execPath, [...process.execArgv, ...args], {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    env,
  })
  printOutput(name, child, env.LOG_FORMAT?.trim() !== 'json')
  return {
    name,
    ended: waitForExit(child),
    kill: (signal) => void (signal === 'SIGKILL' ? killGroup(child) : child.kill(signal)),
  }
}

async function waitForExit(child: ChildProcess): Promise<number | string> {
  // The 'close' event may never come, because a process that the child has started can keep the output open.
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

function printOutput(name: string, { stdout, stderr }: ChildProcess, isForPeople: boolean): void {
  const formatLine = createLogFormat()
  for (const [from, to] of [
    [stdout, process.stdout],
    [stderr, process.stderr],
  ] as const) {
    if (!from) continue
    const print = (line: string) => to.write(`${name.padEnd(7)} │ ${line}\n`)
    createInterface(from).on('line', (line) => {
      if (!isForPeople) return print(line)
      // The process has no terminal, so its log is JSON.
      const text = formatLine(line).trimEnd()
      if (text !== '' || line === '') text.split('\n').forEach(print)
    })
  }
}
