import { sql } from 'kysely'
import { isOutage } from '../src/db/sqlstate.ts'
import type { AnyTransaction } from '../src/operation.ts'
import type { Claim } from './claim.ts'
import { LostClaim } from './failure.ts'
import type { Lane } from './lane.ts'

/**
 * Hands jobs back without spending their attempts. Each by itself: one that ended or was lost at the last moment must
 * not keep the others.
 *
 * @param delaySeconds before they are due again
 */
export async function handBack(lane: Lane, claims: readonly Claim[], delaySeconds = 0): Promise<void> {
  for (const claim of claims) {
    try {
      await lane.database.kysely.transaction().execute(async (trx) => {
        // A settle that hangs still holds the row; its claim is not ours to give back then.
        await sql`select set_config('lock_timeout', '1000', true)`.execute(trx)
        await showQueued(trx as unknown as AnyTransaction, claim.jobId)
        await lane.claims.release(trx as unknown as AnyTransaction, [claim], delaySeconds)
      })
      lane.metrics.countOutcomes(lane.operation.name, { handed_back: 1 })
      lane.hints.notify('status', [claim.jobId])
      lane.hints.notify('work', [lane.operation.name])
      lane.log.info({ job: claim.jobId }, 'Handed back')
    } catch (err) {
      if (err instanceof LostClaim) continue
      lane.log.error({ err, job: claim.jobId }, 'Could not be handed back; it runs again when its heartbeat is overdue')
      // Whoever stops us does not wait until each has tried in vain.
      if (isOutage(err)) return
    }
  }
}

const showQueued = (trx: AnyTransaction, id: string) =>
  sql`
    update accepted.job set state = 'queued', sequence = sequence + 1, updated_at = statement_timestamp()
    where id = ${id} and state = 'running'`.execute(trx)
