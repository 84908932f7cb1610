import { type RawBuilder, sql } from 'kysely'
import type { AnyTransaction } from '../src/operation.ts'
import type { Claim } from './claim.ts'
import type { Lane } from './lane.ts'
import { findPending, lockPending, type PendingJob } from './status.ts'

/** Claims that may be ended in the transaction, and the records of those that are pending. */
export interface Held {
  claims: Claim[]
  pending: ReadonlyMap<string, PendingJob>
}

/**
 * Locks claims that are still held, whoever holds them, and their records.
 *
 * @param options.silent only those whose heartbeat is overdue
 * @param options.wait for whoever has one locked; else it is left out: a settle that holds it is not over yet
 */
export async function lockHeld(
  lane: Lane,
  trx: AnyTransaction,
  found: readonly Claim[],
  { silent = false, wait = false }: { silent?: boolean; wait?: boolean } = {},
): Promise<Held> {
  const otherwise: RawBuilder<unknown> = wait ? sql`` : sql`skip locked`
  const ids = found.map(({ jobId }) => jobId)
  const pending = await lockPending(trx, ids, otherwise)
  const stillPending = await findPending(trx, ids)
  const free = found.filter(({ jobId }) => pending.has(jobId) || !stillPending.has(jobId))
  return { pending, claims: await lane.claims.lock(trx, free, { silent, otherwise }) }
}
