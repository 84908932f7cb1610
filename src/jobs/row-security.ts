import { sql } from 'kysely'
import type { AnyTransaction, Operation } from '../operation.ts'

/**
 * Sets `accepted.principal` until the end of the transaction, for policies of row-level security. Call it before the
 * app's own code. Does nothing if the operation does not have `oneByOne`.
 *
 * @param jobs the jobs of the transaction that the app's code gets. All of them must have the same principal.
 * @throws Error if they do not: the setting would show the rows of one principal to another one
 */
export async function setPrincipal(
  trx: AnyTransaction,
  { name, oneByOne }: Operation,
  jobs: readonly { principal: string }[],
): Promise<void> {
  if (!oneByOne) return
  const [principal, ...others] = new Set(jobs.map((job) => job.principal))
  if (principal === undefined) return
  if (others.length > 0) throw new Error(`Jobs of '${name}' of several principals share a transaction`)
  await sql`select set_config('accepted.principal', ${principal}, true)`.execute(trx)
}
