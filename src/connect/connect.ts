import { collectOperations } from '../collect-operations.ts'
import { assertOptions } from '../primitives/assert-options.ts'
import type { Accepted } from './accepted.ts'
import type { ConnectOptions } from './open.ts'

const optionNames = ['operations', 'database', 'publicUrl', 'jobsPath', 'encryptionKeys', 'log'] as const

/**
 * Connects to the database, to enqueue, read, cancel and retry jobs from any program. Serves no HTTP. Run
 * `accepted migrate` first, and close the connection at the end.
 *
 * @throws TypeError if an option is invalid
 * @throws Error if the database cannot be reached, or is not migrated
 */
export async function connect(options: ConnectOptions): Promise<Accepted> {
  assertOptions('connect', options, optionNames)
  // Every module that defines an operation imports this file.
  const { open } = await import('./open.ts')
  return open(collectOperations(options.operations), options)
}
