import { sql } from 'kysely'
import type { QueueData } from '../src/db/boss.ts'
import type { Database } from '../src/db/database.ts'
import type { JobErrorColumn } from '../src/db/tables.ts'
import { enqueueDeliveries } from '../src/jobs/webhook-delivery.ts'
import { type AnyTransaction, deliveryName } from '../src/operation.ts'
import { type Claim, claimOf } from './claim.ts'
import type { Lane, PendingJob } from './lane.ts'
import { findPending, lockPending, writeAttempt, writeCanceled, writeFailed } from './settle.ts'

const workerLost: JobErrorColumn = {
  code: 'worker-lost',
  message: 'The worker that ran the job fell silent; the attempt does not count',
}

const workerCrashed: JobErrorColumn = {
  code: 'worker-crashed',
  message: 'Workers crashed while they ran the job: one beside others, and two more that ran nothing else',
}

/** The first beside others, which may have been anybody's fault; the others alone. */
const mostCrashes = 3

/** Claims taken back in one round, at most. */
const mostAtOnce = 200

/**
 * Takes back the jobs of workers that fell silent: that were killed, crashed, were cut off, or have been busy in one
 * handler for longer than a heartbeat. Which of these it was cannot be seen from here, nor whose fault it was. So
 * nobody's attempt is spent, and each of the jobs is suspect: it runs again alone. With one that silences a worker alone
 * twice it is certain enough, and it has failed.
 */
export async function takeBackLost(database: Database, lanes: readonly Lane[]): Promise<void> {
  const silent = Map.groupBy(await findSilent(database, lanes), ({ name }) => name)
  for (const lane of lanes) {
    const rows = silent.get(lane.operation.name)
    if (!rows) continue
    const claims = rows.map((row) => claimOf(row, false))
    const { changed, enqueued } = await database.kysely
      .transaction()
      .execute((trx) => takeBack(lane, trx as unknown as AnyTransaction, claims))
    lane.log.warn({ jobs: claims.map(({ jobId }) => jobId) }, 'Taken back from a worker that fell silent')
    lane.hints.notify('status', changed)
    lane.hints.notify('work', [lane.operation.name, ...enqueued])
  }
}

interface SilentRow {
  name: string
  id: string
  retryCount: number
  data: QueueData
}

const overdue = sql`state = 'active' and heartbeat_on < now() - make_interval(secs => heartbeat.seconds)`

async function findSilent({ kysely }: Database, lanes: readonly Lane[]): Promise<SilentRow[]> {
  const { rows } = await sql<SilentRow>`
    select name, id, retry_count as "retryCount", data
    from unnest(
      ${lanes.map(({ operation }) => operation.name)}::text[],
      ${lanes.map(({ operation }) => operation.heartbeatSeconds)}::integer[]
    ) as heartbeat (operation, seconds)
    join pgboss.job on name = operation
    where ${overdue}
    order by id limit ${mostAtOnce}`.execute(kysely)
  return rows
}

async function takeBack(lane: Lane, trx: AnyTransaction, found: readonly Claim[]) {
  const ids = found.map(({ jobId }) => jobId)
  // A settle that still holds one is not over yet.
  const pending = await lockPending(trx, ids, sql`skip locked`)
  const stillPending = await findPending(trx, ids)
  const claims = await lockSilent(lane, trx, found)
  const ofPending = claims.filter(({ jobId }) => pending.has(jobId))
  const isCanceled = ({ jobId }: Claim) => pending.get(jobId)?.cancel_requested === true
  const canceled = ofPending.filter(isCanceled)
  const crashes = await countCrashes(
    lane,
    trx,
    ofPending.filter((claim) => !isCanceled(claim)),
  )
  const isKiller = ({ jobId }: Claim) => (crashes.get(jobId) ?? 0) >= mostCrashes
  const lost = ofPending.filter((claim) => !isCanceled(claim))
  for (const claim of lost) await writeAttempt(trx, claim, pending.get(claim.jobId) as PendingJob, workerLost)
  const killers = lost.filter(isKiller)
  const endings = await writeCanceled(trx, canceled)
  for (const claim of killers) {
    endings.push(...(await writeFailed(trx, claim, workerCrashed)))
    await lane.claims.fail(trx, claim, workerCrashed, 'never')
  }
  await lane.claims.complete(trx, [...canceled, ...claims.filter(({ jobId }) => !stillPending.has(jobId))])
  const again = lost.filter((claim) => !isKiller(claim))
  await showQueued(trx, again)
  await lane.claims.takeBack(trx, again, crashes.size > 0)
  return { changed: ofPending.map(({ jobId }) => jobId), enqueued: await enqueueDeliveries(lane.boss, trx, endings) }
}

/** Those of the claims whose worker is still silent, and which nobody else is about to end. */
async function lockSilent(lane: Lane, trx: AnyTransaction, found: readonly Claim[]): Promise<Claim[]> {
  const { rows } = await sql<{ id: string }>`
    select job.id
    from pgboss.job, (values (${lane.operation.heartbeatSeconds}::integer)) as heartbeat (seconds)
    where name = ${lane.operation.name} and ${overdue}
      and (id, retry_count) in (
        select * from unnest(
          ${found.map(({ queued }) => queued.id)}::uuid[],
          ${found.map(({ queued }) => queued.retryCount)}::integer[]
        )
      )
    for update of job skip locked`.execute(trx)
  const locked = new Set(rows.map(({ id }) => id))
  return found.filter(({ queued }) => locked.has(queued.id))
}

/** How many workers fell silent with each of the jobs, this one included. The deliveries are our own code. */
async function countCrashes(lane: Lane, trx: AnyTransaction, claims: readonly Claim[]): Promise<Map<string, number>> {
  if (claims.length === 0 || lane.operation.name === deliveryName) return new Map()
  const { rows } = await sql<{ job_id: string; crashes: number }>`
    insert into accepted.suspect (job_id, operation, queue_id, crashes)
    select distinct on (job_id) job_id, ${lane.operation.name}, queue_id, 1
    from unnest(
      ${claims.map(({ jobId }) => jobId)}::uuid[],
      ${claims.map(({ queued }) => queued.id)}::uuid[]
    ) as lost (job_id, queue_id)
    on conflict on constraint suspect_pkey do update set
      crashes = suspect.crashes + 1, crashed_at = now(), reserved_until = now(), queue_id = excluded.queue_id
    returning job_id, crashes`.execute(trx)
  return new Map(rows.map(({ job_id, crashes }) => [job_id, crashes]))
}

async function showQueued(trx: AnyTransaction, claims: readonly Claim[]): Promise<void> {
  if (claims.length === 0) return
  await sql`
    update accepted.job set
      state = 'queued', attempt = lost.attempt, max_attempts = max_attempts + 1,
      started_at = coalesce(started_at, now()), updated_at = statement_timestamp(), sequence = sequence + 1
    from unnest(
      ${claims.map(({ jobId }) => jobId)}::uuid[],
      ${claims.map(({ attempt }) => attempt)}::integer[]
    ) as lost (id, attempt)
    where job.id = lost.id`.execute(trx)
}
