import { sql } from 'kysely'
import type { AbandonedJob, AbandonedJobError } from '../abandonment.ts'
import type { JobErrorColumn } from '../db/tables.ts'
import type { AnyTransaction, Operation } from '../operation.ts'
import { readable } from '../primitives/thrown.ts'
import { withTimeout } from '../primitives/timeout.ts'
import { setPrincipal } from './row-security.ts'
import type { Seals } from './seals.ts'

/** A job that ends unsuccessfully in the transaction, which has locked it. */
export interface EndingJob {
  id: string
  principal: string
  resource: string | null
  /** As it is stored: with sealed members. */
  payload: unknown
  status: 'failed' | 'canceled'
  /** Set when the status is `failed`. */
  error: JobErrorColumn | null
}

/**
 * Calls the `abandon` of an operation for jobs that end in the transaction. Does nothing if the operation has none, or
 * if there are no jobs.
 *
 * @throws what `abandon` throws, an error when it takes longer than the operation's timeout, or DecryptionError. The
 *   transaction must then be rolled back.
 */
export async function abandonJobs(
  trx: AnyTransaction,
  operation: Operation,
  jobs: readonly EndingJob[],
  seals: Seals,
): Promise<void> {
  const { name, abandon, timeoutSeconds } = operation
  if (!abandon || jobs.length === 0) return
  const opened = jobs.map((job) => {
    return { ...job, payload: seals.open('payload', { operation, principal: job.principal }, job.payload) }
  })
  // No statement continues long after the timeout.
  await sql`select set_config('statement_timeout', ${`${timeoutSeconds + 1}s`}, true)`.execute(trx)
  await setPrincipal(trx, operation, jobs)
  const abandoning = Promise.resolve()
    .then(() => abandon(trx, opened.map(toAbandonedJob)))
    .catch((error: unknown) => Promise.reject(readable(error)))
  const timeoutError = () => new Error(`abandon of '${name}' took longer than ${timeoutSeconds} s`)
  await withTimeout(abandoning, timeoutSeconds * 1000, timeoutError)
}

function toAbandonedJob({ resource, error, ...job }: EndingJob): AbandonedJob {
  return { ...job, resource: resource ?? undefined, error: error ? describeStoredError(error) : undefined }
}

/** Describes the error of a job for the code of the app. */
export function describeStoredError({ public: _, child, ...described }: JobErrorColumn): AbandonedJobError {
  if (!child) return described
  const { error, ...failed } = child
  return { ...described, details: [{ ...failed, ...(error && { error: describeStoredError(error) }) }] }
}
