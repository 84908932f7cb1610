import { availableParallelism } from 'node:os'
import { ConfigError } from '../../config.ts'

const maxProcesses = 64

/**
 * Reads the option --processes. `auto` is the number of processors that this process may use: within a container, its
 * limit.
 *
 * @throws ConfigError
 */
export function parseProcesses(text: string | undefined): number {
  if (text === undefined) return 1
  if (text === 'auto') return Math.min(availableParallelism(), maxProcesses)
  const count = /^\d+$/.test(text) ? Number(text) : 0
  if (count >= 1 && count <= maxProcesses) return count
  throw new ConfigError(
    `--processes must be an integer from 1 to ${maxProcesses}, or auto for one process per processor, not '${text}'.`,
  )
}
