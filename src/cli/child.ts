import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'

/** A process of ours that dev looks after. */
export interface Child {
  name: string
  /** Its exit code, or the signal that ended it, once it has ended. */
  ended: Promise<number | string>
  kill(signal: NodeJS.Signals): void
}

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
    ended: once(child, 'close').then(([code, signal]) => code ?? signal),
    kill: (signal) => void child.kill(signal),
  }
}

function passOn(name: string, { stdout, stderr }: ChildProcess): void {
  for (const [from, to] of [
    [stdout, process.stdout],
    [stderr, process.stderr],
  ] as const) {
    if (from) createInterface(from).on('line', (line) => to.write(`${name.padEnd(7)} │ ${line}\n`))
  }
}
