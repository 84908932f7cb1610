import { sql } from 'kysely'
import type { AbandonedJob } from '../abandonment.ts'
import type { JobErrorColumn } from '../db/tables.ts'
import type { AnyTransaction, Operation } from '../operation.ts'
import { readable } from '../primitives/thrown.ts'
import { withTimeout } from '../primitives/timeout.ts'

/** A job that ends unsuccessfully in the transaction, which has locked it. */
export interface EndingJob {
  id: string
  principal: string
  resource: string | null
  payload: unknown
  status: 'failed' | 'canceled'
  /** Set when the status is `failed`. */
  error: JobErrorColumn | null
}

/**
 * Calls the `abandon` of an operation for jobs that end in the transaction. Does nothing if the operation has none, or
 * if there are no jobs.
 *
 * @throws what `abandon` throws, or an error when it takes longer than the operation's timeout. The transaction must
 *   then be rolled back.
 */
export async function abandonJobs(
  trx: AnyTransaction,
  { name, abandon, timeoutSeconds }: Operation,
  jobs: readonly EndingJob[],
): Promise<void> {
  if (!abandon || jobs.length === 0) return
  // No statement continues long after the timeout.
  await sql`select set_config('statement_timeout', ${`${timeoutSeconds + 1}s`}, true)`.execute(trx)
  const abandoning = Promise.resolve()
    .then(() => abandon(trx, jobs.map(toAbandonedJob)))
    .catch((error: unknown) => Promise.reject(readable(error)))
  const timeoutError = () => new Error(`abandon of '${name}' took longer than ${timeoutSeconds} s`)
  await withTimeout(abandoning, timeoutSeconds * 1000, timeoutError)
}

function toAbandonedJob({ resource, error, ...job }: EndingJob): AbandonedJob {
  const { public: _, ...described } = error ?? ({} as JobErrorColumn)
  return { ...job, resource: resource ?? undefined, error: error ? described : undefined }
}
