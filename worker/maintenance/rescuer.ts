import { sql } from 'kysely'
import type { Database } from '../../src/db/database.ts'
import { rowLock } from '../../src/db/locks.ts'
import { runWithGenericPlan, useGenericPlan } from '../../src/db/plan-settings.ts'
import { isOutage } from '../../src/db/sqlstate.ts'
import type { JobErrorColumn } from '../../src/db/tables.ts'
import { followEnds } from '../../src/jobs/relatives.ts'
import type { EndedJob } from '../../src/jobs/webhook-delivery.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import { type Claim, type ClaimedRow, claimedColumns, claimOf } from '../../src/queue/claim.ts'
import { orphanedJobs } from '../../src/queue/orphans.ts'
import { decideEnds } from '../execution/abandon.ts'
import { type StatusWriter, writeAttempts, writeCanceled, writeFailed, writeRetried } from '../execution/job-status.ts'
import { lockClaims } from '../execution/lock-claims.ts'
import { announce, type CommitResult, type OperationWorker } from '../execution/operation-worker.ts'
import { type FoundTogether, findSuspects, mayCrash, quarantineAndCountCrashes, workerLost } from './suspects.ts'

/** How often the queue of an operation is searched for orphaned jobs, in milliseconds. */
export const rescueIntervalMs = 3_000

/** Maximum number of jobs of one operation in one rescue. The next rescue takes the rest. */
const maxBatchSize = 1_000

/** Registers operations whose queues are searched for orphaned jobs. */
export async function registerRescues({ kysely }: Database, names: readonly string[]): Promise<void> {
  await sql`
    insert into accepted.rescue (operation) select unnest(${names}::text[]) on conflict do nothing`.execute(kysely)
}

/**
 * Rescues the jobs of dead workers. A worker is dead when it was killed, has crashed, has lost its connection, or was
 * blocked by a handler until its heartbeat was overdue. These cases look alike from outside, and any job of the worker
 * may be the cause. So the rescue uses up no attempt, and the jobs are quarantined: they run again in small
 * groups, apart from all other jobs. If a worker dies again, the jobs of its group run in smaller groups, and at last
 * alone. A job fails when it crashes two workers while it runs alone, or after eight rescues. A crash does not count
 * when another worker dies at the same time, because then the job is assumed not to be the cause.
 *
 * The runtime calls this function when a poll has found orphaned jobs and this worker's own connection is stable.
 *
 * @param workers the operations of this process
 */
export async function rescueOrphaned(database: Database, workers: readonly OperationWorker[]): Promise<void> {
  const found = await findOrphans(database, workers)
  const orphans = Map.groupBy(found, ({ name }) => name)
  const jobCount = workers.reduce(
    (sum, worker) => sum + (mayCrash(worker) ? (orphans.get(worker.operation.name) ?? []) : []).length,
    0,
  )
  for (const worker of workers) {
    const rows = orphans.get(worker.operation.name)
    if (!rows) continue
    const claims = rows.map((row) => claimOf(row))
    const together = { jobCount, foundAt: rows[0]?.found_at as string }
    try {
      const result = await database.kysely
        .transaction()
        .execute((trx) => rescue(worker, trx as unknown as AnyTransaction, claims, together))
      if (result.jobs.length > 0) worker.log.warn({ jobs: result.jobs }, 'Jobs of a dead worker rescued')
      announce(worker, result)
    } catch (err) {
      if (isOutage(err)) throw err
      worker.log.error({ err }, 'Jobs of a dead worker could not be rescued; trying again')
    }
  }
}

interface OrphanRow extends ClaimedRow {
  name: string
  found_at: string
}

/**
 * Finds jobs whose heartbeat is overdue. In each interval, only one worker searches the queue of an operation, so the
 * cost does not grow with the number of workers.
 */
async function findOrphans({ kysely }: Database, workers: readonly OperationWorker[]): Promise<OrphanRow[]> {
  const names = workers.map(({ operation }) => operation.name)
  const statement = sql<OrphanRow>`
    with turn as materialized (
      update accepted.rescue set checked_at = now()
      where operation in (
        select operation from accepted.rescue
        where operation = any(${names}) and checked_at < now() - make_interval(secs => ${rescueIntervalMs / 1000})
        ${rowLock.skip}
      )
      returning operation
    )
    select name, now()::text as found_at, ${claimedColumns}
    from unnest(
      ${names}::text[],
      ${workers.map(({ operation }) => operation.heartbeatSeconds)}::integer[]
    ) as heartbeat (operation, seconds)
    join turn using (operation)
    cross join lateral ${orphanedJobs(sql`heartbeat.operation`, sql`heartbeat.seconds`, maxBatchSize)} as orphan`
  return (await runWithGenericPlan(kysely, statement)).rows
}

/** Ends jobs. If their operation has `abandon`, only decides their ends: they end in the transaction of `abandon`. */
async function endOrDecide(
  trx: AnyTransaction,
  writer: StatusWriter,
  { canceled, failed }: { canceled: readonly Claim[]; failed: readonly FailedClaim[] },
): Promise<EndedJob[]> {
  if (writer.operation.abandon) {
    await decideEnds(trx, [
      ...canceled.map((claim) => ({ claim, status: 'canceled' as const })),
      ...failed.map(({ claim, error }) => ({ claim, status: 'failed' as const, error })),
    ])
    return []
  }
  const ended = await writeCanceled(trx, writer, canceled)
  for (const { claim, error } of failed) ended.push(...(await writeFailed(trx, writer, [claim], error)))
  return ended
}

interface FailedClaim {
  claim: Claim
  error: JobErrorColumn
}

async function rescue(
  worker: OperationWorker,
  trx: AnyTransaction,
  found: readonly Claim[],
  together: FoundTogether,
): Promise<CommitResult> {
  await useGenericPlan(trx)
  const { claims, pending } = await lockClaims(worker, trx, found, { isOverdue: true, lockWait: 'skip' })
  const isCanceled = ({ jobId }: Claim) => pending.get(jobId)?.cancel_requested === true
  const ended = claims.filter(({ jobId }) => !pending.has(jobId))
  const canceled = claims.filter(isCanceled)
  const orphaned = claims.filter((claim) => pending.has(claim.jobId) && !isCanceled(claim))
  const suspects = await findSuspects(worker, trx, orphaned)
  const errors = await quarantineAndCountCrashes(worker, trx, suspects, together)
  const failed = orphaned.flatMap((claim) => {
    const error = errors.get(claim.jobId)
    return error ? [{ claim, error }] : []
  })
  const rescued = orphaned.filter(({ jobId }) => !errors.has(jobId))
  const { operation } = worker
  const ofDeadWorker = { operation, workerId: null }
  await writeAttempts(trx, ofDeadWorker, orphaned, pending, workerLost)
  const endedJobs = await endOrDecide(trx, ofDeadWorker, { canceled, failed })
  for (const { claim, error } of failed) await worker.claims.fail(trx, claim, error, 'never')
  await worker.claims.complete(trx, [...canceled, ...ended])
  await writeRetried(trx, ofDeadWorker, rescued, { extraAttempts: 1 })
  for (const isQuarantined of [true, false]) {
    const some = rescued.filter((claim) => suspects.includes(claim) === isQuarantined)
    await worker.claims.rescue(trx, some, { isQuarantined })
  }
  const followed = await followEnds(worker.boss, trx, endedJobs, { areClaimed: true })
  return {
    jobs: [...claims.map(({ jobId }) => jobId), ...followed.jobs],
    enqueued: [operation.name, ...followed.enqueued],
    outcomes: {
      rescued: rescued.length,
      ...(!operation.abandon && { failed: failed.length, canceled: canceled.length }),
    },
  }
}
