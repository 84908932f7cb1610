import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'

/** A process of ours that dev looks after. */
export interface Child {
  name: string
  /** Its exit code, or the signal that ended it or the error that kept it from starting, once it has ended. */
  ended: Promise<number | string>
  /** SIGKILL reaches what it has started, too. */
  kill(signal: NodeJS.Signals): void
}

/** How long the last lines of a process that has ended may take, in milliseconds. */
const lastLinesWithin = 1_000

/**
 * Starts a process in a group of its own, so that a terminal's Ctrl-C reaches only us. It has an IPC channel, by whose
 * end it learns of ours. What it prints is passed on, each line with its name.
 */
export function startChild(name: string, args: readonly string[], env: NodeJS.ProcessEnv): Child {
  const child = spawn(process.execPath, [...process.execArgv, ...args], {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    env,
  })
  passOn(name, child)
  return {
    name,
    ended: end(child),
    kill: (signal) => void (signal === 'SIGKILL' ? killGroup(child) : child.kill(signal)),
  }
}

async function end(child: ChildProcess): Promise<number | string> {
  // What the process has started may hold on to its pipes for ever.
  const printed = new Promise((resolve) => child.once('close', resolve))
  try {
    const [code, signal] = await once(child, 'exit')
    await Promise.race([printed, delay(lastLinesWithin)])
    return code ?? signal
  } catch (error) {
    return (error as Error).message
  }
}

function killGroup({ pid, exitCode, signalCode }: ChildProcess): void {
  if (pid && exitCode === null && signalCode === null) process.kill(-pid, 'SIGKILL')
}

function passOn(name: string, { stdout, stderr }: ChildProcess): void {
  for (const [from, to] of [
    [stdout, process.stdout],
    [stderr, process.stderr],
  ] as const) {
    if (from) createInterface(from).on('line', (line) => to.write(`${name.padEnd(7)} │ ${line}\n`))
  }
}
