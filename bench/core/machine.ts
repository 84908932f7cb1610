import { execFileSync } from 'node:child_process'
import { cpus, release, totalmem } from 'node:os'

/** When, where and with which commit a run was made. */
export interface Machine {
  date: string
  processors: number
  model: string
  /** In GiB. */
  memory: number
  kernel: string
  node: string
  commit: string
}

export const describeMachine = (): Machine => ({
  date: new Date().toISOString().slice(0, 10),
  processors: cpus().length,
  model: cpus()[0]?.model ?? 'processor',
  memory: Math.round(totalmem() / 2 ** 30),
  kernel: release(),
  node: process.version,
  commit: describeCommit(),
})

function describeCommit(): string {
  try {
    const args = ['describe', '--always', '--dirty']
    return execFileSync('git', args, {
      cwd: import.meta.dirname,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim()
  } catch {
    // Not a Git checkout, or no Git.
    return 'unknown'
  }
}
