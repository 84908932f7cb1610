import { waitForSignal } from '../shutdown.ts'
import { type GroupOptions, ProcessGroup } from './group.ts'

/**
 * Runs this command in several processes until this process, the primary, must stop. Sets the exit code 1 if one of them
 * did not stop by itself. If the primary process is killed, the others notice, and stop as they do after SIGTERM.
 *
 * @param serve starts a server of the primary process
 * @throws ConfigError when a process ends before it is ready
 */
export async function runProcesses(
  options: GroupOptions,
  serve?: (group: ProcessGroup) => Promise<{ close(): Promise<void> }>,
): Promise<void> {
  const group = new ProcessGroup(options)
  const shutdown = waitForSignal(() => {
    group.kill()
    process.exit(1)
  })
  const server = await serve?.(group)
  try {
    await Promise.race([shutdown, group.start().then(() => shutdown)])
  } finally {
    if (!(await group.stop())) process.exitCode = 1
    await server?.close()
  }
}
