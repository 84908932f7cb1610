import { setTimeout as delay } from 'node:timers/promises'
import { useGenericPlan } from '../../src/db/plan-settings.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import type { Claim } from '../../src/queue/claim.ts'
import { writeQueued } from './job-status.ts'
import { lockClaims } from './lock-claims.ts'
import { announce, type OperationWorker } from './operation-worker.ts'

/**
 * The pauses between tries, in milliseconds. A later try may succeed: a transaction whose connection was closed keeps
 * its locks until the server notices.
 */
const pausesMs = [50, 150, 500]

/**
 * Releases claims without using up their attempts. Skips jobs that have ended and claims that are lost. Never rejects:
 * a job that cannot be released is rescued when its heartbeat is overdue.
 *
 * @param delaySeconds how long until the jobs are due again
 */
export async function releaseClaims(
  worker: OperationWorker,
  claims: readonly Claim[],
  delaySeconds = 0,
): Promise<void> {
  let remaining = claims
  for (const claim of claims) worker.spans?.end(claim, 'released')
  try {
    for (const pauseMs of [...pausesMs, 0]) {
      if (remaining.length === 0) return
      remaining = await releaseUnlocked(worker, remaining, delaySeconds)
      if (remaining.length > 0) await delay(pauseMs)
    }
    if (remaining.length > 0) warn(worker, remaining)
  } catch (err) {
    warn(worker, remaining, err)
  }
}

/** Releases the claims that no other transaction has locked. Returns the other claims that are still held. */
async function releaseUnlocked(
  worker: OperationWorker,
  claims: readonly Claim[],
  delaySeconds: number,
): Promise<readonly Claim[]> {
  const { jobs, locked } = await worker.database.kysely.transaction().execute(async (kyselyTrx) => {
    const trx = kyselyTrx as unknown as AnyTransaction
    await useGenericPlan(trx)
    const found = await lockClaims(worker, trx, claims, { lockWait: 'skip' })
    const others = claims.filter((claim) => !found.claims.includes(claim) && !found.lockedByOthers.includes(claim))
    const jobs = found.claims.map(({ jobId }) => jobId)
    await writeQueued(trx, jobs)
    await worker.claims.release(trx, found.claims, delaySeconds)
    return { jobs, locked: [...found.lockedByOthers, ...(await worker.claims.findHeld(trx, others))] }
  })
  if (jobs.length > 0) {
    announce(worker, { jobs, enqueued: [worker.operation.name], outcomes: { released: jobs.length } })
    worker.log.info({ jobs }, 'Jobs released; they run again')
  }
  return locked
}

function warn(worker: OperationWorker, claims: readonly Claim[], err?: unknown): void {
  const jobs = claims.map(({ jobId }) => jobId)
  worker.log.error({ err, jobs }, 'Jobs could not be released; they are rescued when their heartbeat is overdue')
}
