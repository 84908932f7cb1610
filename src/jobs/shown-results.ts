import type { Operation } from '../operation.ts'
import { DecryptionError } from '../primitives/key-ring.ts'
import type { Job } from './job.ts'
import { isSealing, type Seals } from './seals.ts'

/** A job whose result is shown. */
type Owned = Pick<Job, 'operation' | 'principal'>

/** Decrypts the sealed members of results for the owner of their job. Other callers see them sealed. */
export interface ShownResults {
  show(job: Owned, viewer: string, result: unknown): unknown
  /** Like {@link show}, with the result as JSON. */
  showJson(job: Owned, viewer: string, json: string): string
}

/**
 * Creates the {@link ShownResults} of a process.
 *
 * @param onError called when a result cannot be decrypted, which is then shown sealed. Default: throws DecryptionError.
 */
export function createShownResults(
  operations: ReadonlyMap<string, Operation>,
  seals: Seals,
  onError?: (error: DecryptionError, job: Owned) => void,
): ShownResults {
  const sealingOf = ({ operation: name, principal }: Owned, viewer: string) => {
    const operation = viewer === principal ? operations.get(name) : undefined
    return operation && isSealing(operation) ? operation : undefined
  }
  const show: ShownResults['show'] = (job, viewer, result) => {
    const operation = sealingOf(job, viewer)
    if (!operation) return result
    try {
      return seals.open('result', { operation, principal: job.principal }, result)
    } catch (error) {
      if (!onError || !(error instanceof DecryptionError)) throw error
      onError(error, job)
      return result
    }
  }
  return {
    show,
    showJson: (job, viewer, json) =>
      sealingOf(job, viewer) ? JSON.stringify(show(job, viewer, JSON.parse(json))) : json,
  }
}
