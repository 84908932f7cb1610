import { sql } from 'kysely'
import type { Database } from '../../src/db/database.ts'
import { isOutage } from '../../src/db/sqlstate.ts'
import type { JobErrorColumn } from '../../src/db/tables.ts'
import { enqueueDeliveries } from '../../src/jobs/webhook-delivery.ts'
import { type AnyTransaction, deliveryName } from '../../src/operation.ts'
import { type Claim, type ClaimedRow, claimOf } from '../../src/queue/claim.ts'
import { isAnotherHeartbeatMissing, orphanedJobs } from '../../src/queue/orphans.ts'
import { writeAttempts, writeCanceled, writeFailed, writeRetried } from '../execution/job-status.ts'
import { lockClaims } from '../execution/lock-claims.ts'
import { announce, type CommitResult, type OperationWorker } from '../execution/operation-worker.ts'

const workerLost: JobErrorColumn = {
  code: 'worker-lost',
  message: 'The worker that ran the job died; the attempt does not count',
}

const workerCrashed: JobErrorColumn = {
  code: 'worker-crashed',
  message: 'Several workers crashed while they ran the job; the last ones ran no other job',
}

/** Crashes after which a job has failed: the first beside other jobs, which may have caused it, the others alone. */
const maxCrashes = 3

/** Rescues after which a job has failed, those included that do not count as crashes. */
const maxRescues = 8

/** Workers that die within this time died for one reason, which is not the job. In seconds. */
const commonCauseSeconds = 10

/** How often the queue of an operation is searched for orphaned jobs, in milliseconds. */
export const rescueIntervalMs = 3_000

/** Jobs of one operation that are rescued at once, at most. A worker process holds two batches. */
const maxBatchSize = 1_000

/** Adds operations to those whose queues are searched. */
export async function registerRescues({ kysely }: Database, names: readonly string[]): Promise<void> {
  await sql`
    insert into accepted.rescue (operation) select unnest(${names}::text[]) on conflict do nothing`.execute(kysely)
}

/**
 * Rescues the jobs of dead workers: those that were killed or crashed, lost their connection, or were blocked by a handler
 * for longer than a heartbeat. From here these look alike, and any of the worker's jobs may have caused it. So no attempt is
 * spent, and each job is quarantined: it runs again alone. A job that crashes two more workers alone has failed. When another
 * worker dies at the same time, the cause was something else, and the crash does not count.
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
 * Finds jobs whose heartbeat is overdue. Each operation is searched once per interval, by whichever worker comes first, so
 * the cost does not grow with the number of workers.
 */
async function findOrphans({ kysely }: Database, workers: readonly OperationWorker[]): Promise<OrphanRow[]> {
  const names = workers.map(({ operation }) => operation.name)
  const { rows } = await sql<OrphanRow>`
    with turn as materialized (
      update accepted.rescue set checked_at = now()
      where operation in (
        select operation from accepted.rescue
        where operation = any(${names}) and checked_at < now() - make_interval(secs => ${rescueIntervalMs / 1000})
        for update skip locked
      )
      returning operation
    )
    select name, id, retry_count as "retryCount", data
    from unnest(
      ${names}::text[],
      ${workers.map(({ operation }) => operation.heartbeatSeconds)}::integer[]
    ) as heartbeat (operation, seconds)
    join turn using (operation)
    cross join lateral ${orphanedJobs(sql`heartbeat.operation`, sql`heartbeat.seconds`, maxBatchSize)} as orphan`.execute(
    kysely,
  )
  return rows
}

async function rescue(worker: OperationWorker, trx: AnyTransaction, found: readonly Claim[]): Promise<CommitResult> {
  const { claims, pending } = await lockClaims(worker, trx, found, { isOverdue: true, lockWait: 'skip' })
  const isCanceled = ({ jobId }: Claim) => pending.get(jobId)?.cancel_requested === true
  const ended = claims.filter(({ jobId }) => !pending.has(jobId))
  const canceled = claims.filter(isCanceled)
  const orphaned = claims.filter((claim) => pending.has(claim.jobId) && !isCanceled(claim))
  const crashes = await countCrashes(worker, trx, orphaned)
  const hasFailed = ({ jobId }: Claim) => crashes.get(jobId)?.isFatal === true
  const failed = orphaned.filter(hasFailed)
  const rescued = orphaned.filter((claim) => !hasFailed(claim))
  await writeAttempts(trx, orphaned, pending, workerLost)
  const endedJobs = [...(await writeCanceled(trx, canceled)), ...(await writeFailed(trx, failed, workerCrashed))]
  for (const claim of failed) await worker.claims.fail(trx, claim, workerCrashed, 'never')
  await worker.claims.complete(trx, [...canceled, ...ended])
  await writeRetried(trx, rescued, 1)
  await worker.claims.rescue(trx, rescued, crashes.size > 0)
  return {
    jobs: claims.map(({ jobId }) => jobId),
    enqueued: [worker.operation.name, ...(await enqueueDeliveries(worker.boss, trx, endedJobs))],
    outcomes: { rescued: rescued.length, failed: failed.length, canceled: canceled.length },
  }
}

/**
 * Puts jobs into quarantine and counts the crashes of their workers. A crash does not count when another worker has missed
 * its heartbeats too, or when another job was quarantined at the same time since the last crash of this one: jobs that were
 * quarantined with it then were held by the same worker. Webhook deliveries are our own code and are not quarantined.
 */
async function countCrashes(
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
