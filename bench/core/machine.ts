import { execFileSync } from 'node:child_process'
import { cpus, release, totalmem } from 'node:os'

/** The date, machine and commit of a run. */
export interface Machine {
  date: string
  processors: number
  model: string
  /** In GiB. */
  memory: number
  /** Major and minor version. */
  kernel: string
  node: string
  commit: string
}

export const describeMachine = (): Machine => ({
  date: new Date().toISOString().slice(0, 10),
  processors: cpus().length,
  model: cpus()[0]?.model ?? 'processor',
  memory: Math.round(totalmem() / 2 ** 30),
  kernel: release().match(/^\d+\.\d+/)?.[0] ?? release(),
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
    // Git is missing, or this directory is not a Git checkout.
    return 'unknown'
  }
}
