import { sql } from 'kysely'
import { isContention } from '../src/db/sqlstate.ts'
import type { AnyTransaction } from '../src/operation.ts'
import type { Claim } from './claim.ts'
import { lockHeld } from './held.ts'
import type { Lane } from './lane.ts'
import { writeQueued } from './status.ts'

/** How long somebody is waited for who has one of the jobs locked, in milliseconds. */
const lockTimeout = 1_000

/**
 * Hands jobs back without spending their attempts: those that have not ended, and are not lost.
 *
 * @param delaySeconds before they are due again
 */
export async function handBack(lane: Lane, claims: readonly Claim[], delaySeconds = 0): Promise<void> {
  if (claims.length === 0) return
  const jobs = claims.map(({ jobId }) => jobId)
  try {
    const given = await give(lane, claims, delaySeconds, true).catch((error) => {
      if (!isContention(error)) throw error
      // A settle that hangs: its claim is not ours to give back.
      return give(lane, claims, delaySeconds, false)
    })
    if (given.length === 0) return
    lane.metrics.countOutcomes(lane.operation.name, { handed_back: given.length })
    lane.hints.notify('status', given)
    lane.hints.notify('work', [lane.operation.name])
    lane.log.info({ jobs: given }, 'Handed back')
  } catch (err) {
    lane.log.error({ err, jobs }, 'Could not be handed back; they run again when their heartbeat is overdue')
  }
}

/** @returns the jobs that were given back */
function give(lane: Lane, claims: readonly Claim[], delaySeconds: number, wait: boolean): Promise<string[]> {
  return lane.database.kysely.transaction().execute(async (kyselyTrx) => {
    const trx = kyselyTrx as unknown as AnyTransaction
    await sql`select set_config('lock_timeout', ${`${lockTimeout}`}, true)`.execute(trx)
    const held = await lockHeld(lane, trx, claims, { wait })
    const jobs = held.claims.map(({ jobId }) => jobId)
    await writeQueued(trx, jobs)
    await lane.claims.release(trx, held.claims, delaySeconds)
    return jobs
  })
}
