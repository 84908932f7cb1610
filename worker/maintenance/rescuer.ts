import { sql } from 'kysely'
import type { Database } from '../../src/db/database.ts'
import { rowLock } from '../../src/db/locks.ts'
import { runWithGenericPlan, useGenericPlan } from '../../src/db/plan-settings.ts'
import { isOutage } from '../../src/db/sqlstate.ts'
import type { JobErrorColumn } from '../../src/db/tables.ts'
import { followEnds } from '../../src/jobs/relatives.ts'
import type { EndedJob } from '../../src/jobs/webhook-delivery.ts'
import { type AnyTransaction, deliveryName } from '../../src/operation.ts'
import { type Claim, type ClaimedRow, claimedColumns, claimOf } from '../../src/queue/claim.ts'
import { isAnotherHeartbeatMissing, orphanedJobs } from '../../src/queue/orphans.ts'
import { decideEnds } from '../execution/abandon.ts'
import { type StatusWriter, writeAttempts, writeCanceled, writeFailed, writeRetried } from '../execution/job-status.ts'
import { lockClaims } from '../execution/lock-claims.ts'
import { announce, type CommitResult, type OperationWorker } from '../execution/operation-worker.ts'

const workerLost: JobErrorColumn = {
  code: 'worker-lost',
  message: 'The worker that ran the job died; the attempt does not count',
}

const workerCrashed: JobErrorColumn = {
  code: 'worker-crashed',
  message: 'Several workers crashed while they ran the job; the last two of them ran no other job',
}

/** A job fails after this many crashes: the first while other jobs ran too, the next two while the job ran alone. */
const maxCrashes = 3

/** A job fails after this many rescues, even if the rescues do not count as crashes. */
const maxRescues = 8

/**
 * If two workers die within this many seconds, both deaths are assumed to have the same cause, which is not the job.
 */
const commonCauseSeconds = 10

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
 * may be the cause. So the rescue uses up no attempt, and each job is quarantined: it runs again alone. A job fails
 * when it crashes two more workers while it runs alone, or after eight rescues. A crash does not count when another
 * worker dies at the same time, because then the job is assumed not to be the cause.
 *
 * The runtime calls this function when a poll says that a rescue is due and this worker's own connection is stable.
 *
 * @param workers the operations of this process
 */
export async function rescueOrphaned(database: Database, workers: readonly OperationWorker[]): Promise<void> {
  const orphans = Map.groupBy(await findOrphans(database, workers), ({ name }) => name)
  for (const worker of workers) {
    const rows = orphans.get(worker.operation.name)
    if (!rows) continue
    const claims = rows.map((row) => claimOf(row))
    try {
      const result = await database.kysely
        .transaction()
        .execute((trx) => rescue(worker, trx as unknown as AnyTransaction, claims))
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
    select name, ${claimedColumns}
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
  { canceled, failed }: Record<'canceled' | 'failed', readonly Claim[]>,
): Promise<EndedJob[]> {
  if (writer.operation.abandon) {
    await decideEnds(trx, [
      ...canceled.map((claim) => ({ claim, status: 'canceled' as const })),
      ...failed.map((claim) => ({ claim, status: 'failed' as const, error: workerCrashed })),
    ])
    return []
  }
  return [...(await writeCanceled(trx, writer, canceled)), ...(await writeFailed(trx, writer, failed, workerCrashed))]
}

async function rescue(worker: OperationWorker, trx: AnyTransaction, found: readonly Claim[]): Promise<CommitResult> {
  await useGenericPlan(trx)
  const { claims, pending } = await lockClaims(worker, trx, found, { isOverdue: true, lockWait: 'skip' })
  const isCanceled = ({ jobId }: Claim) => pending.get(jobId)?.cancel_requested === true
  const ended = claims.filter(({ jobId }) => !pending.has(jobId))
  const canceled = claims.filter(isCanceled)
  const orphaned = claims.filter((claim) => pending.has(claim.jobId) && !isCanceled(claim))
  const crashes = await quarantineAndCountCrashes(worker, trx, orphaned)
  const hasFailed = ({ jobId }: Claim) => crashes.get(jobId)?.isFatal === true
  const failed = orphaned.filter(hasFailed)
  const rescued = orphaned.filter((claim) => !hasFailed(claim))
  const { operation } = worker
  const ofDeadWorker = { operation, workerId: null }
  await writeAttempts(trx, ofDeadWorker, orphaned, pending, workerLost)
  const endedJobs = await endOrDecide(trx, ofDeadWorker, { canceled, failed })
  for (const claim of failed) await worker.claims.fail(trx, claim, workerCrashed, 'never')
  await worker.claims.complete(trx, [...canceled, ...ended])
  await writeRetried(trx, ofDeadWorker, rescued, { extraAttempts: 1 })
  const isQuarantined = crashes.size > 0
  await worker.claims.rescue(trx, rescued, { isQuarantined })
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

/**
 * Puts jobs into quarantine and counts the crashes of their workers. A crash does not count when it seems to have a
 * common cause with another crash: another job has missed its heartbeats too, or was quarantined in the last 10
 * seconds. Jobs that were quarantined at the same time as this job's previous crash are ignored, because the same
 * worker held them. Webhook deliveries are our own code and are not quarantined.
 */
async function quarantineAndCountCrashes(
  worker: OperationWorker,
  trx: AnyTransaction,
  claims: readonly Claim[],
): Promise<Map<string, { isFatal: boolean }>> {
  if (claims.length === 0 || worker.operation.name === deliveryName) return new Map()
  const { rows } = await sql<{ job_id: string; crashes: number; rescues: number }>`
    insert into accepted.quarantine (job_id, operation, queue_id, crashes)
    select distinct on (job_id) job_id, ${worker.operation.name}, queue_id, 1
    from unnest(
      ${claims.map(({ jobId }) => jobId)}::uuid[],
      ${claims.map(({ queued }) => queued.id)}::uuid[]
    ) as lost (job_id, queue_id)
    on conflict on constraint quarantine_pkey do update set
      crashes = quarantine.crashes + case
        when ${isAnotherHeartbeatMissing(sql`excluded.operation`, sql`excluded.queue_id`)} or exists (
          select from accepted.quarantine other
          where other.job_id <> excluded.job_id
            and other.crashed_at
              > greatest(quarantine.crashed_at, now() - make_interval(secs => ${commonCauseSeconds}))
        ) then 0 else 1
      end,
      rescues = quarantine.rescues + 1, crashed_at = now(), reserved_until = now(), queue_id = excluded.queue_id
    returning job_id, crashes, rescues`.execute(trx)
  return new Map(
    rows.map(({ job_id, crashes, rescues }) => [job_id, { isFatal: crashes >= maxCrashes || rescues >= maxRescues }]),
  )
}
