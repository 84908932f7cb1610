import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface Workspace {
  /** Empty at the start. Removed at the end. */
  directory: string
  /** Registers a cleanup step. The steps run in reverse order, before the directory is removed. */
  onClose(step: () => Promise<unknown>): void
}

/** Runs `use` with a temporary directory. Cleans up afterwards, even after a signal or an uncaught error. */
export async function withWorkspace<Result>(use: (workspace: Workspace) => Promise<Result>): Promise<Result> {
  const directory = await mkdtemp(join(tmpdir(), 'accepted-bench-'))
  const steps: (() => Promise<unknown>)[] = []
  const close = async () => {
    for (const step of steps.toReversed()) await step()
    await rm(directory, { recursive: true, force: true })
  }
  const abort = async (reason: Error | string) => {
    console.error(`error: ${typeof reason === 'string' ? `stopped by ${reason}` : reason.stack}`)
    // Errors during the cleanup are consequences of the error that was just printed.
    process.on('uncaughtException', () => {})
    await close().finally(() => process.exit(1))
  }
  for (const event of ['SIGINT', 'SIGTERM', 'uncaughtException'] as const) process.once(event, abort)
  try {
    // If root runs the bench, Postgres runs as another user. That user must be able to enter the directory.
    await chmod(directory, 0o755)
    return await use({ directory, onClose: (step) => void steps.push(step) })
  } finally {
    await close()
  }
}
