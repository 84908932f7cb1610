import { sql } from 'kysely'
import type { QueueData } from '../src/db/boss.ts'
import type { Database } from '../src/db/database.ts'
import { isOutage } from '../src/db/sqlstate.ts'
import type { JobErrorColumn } from '../src/db/tables.ts'
import { enqueueDeliveries } from '../src/jobs/webhook-delivery.ts'
import { type AnyTransaction, deliveryName } from '../src/operation.ts'
import { type Claim, claimOf, overdue } from './claim.ts'
import { lockHeld } from './held.ts'
import type { Lane } from './lane.ts'
import type { Settled } from './settle.ts'
import { writeAttempts, writeCanceled, writeFailed, writeRetried } from './status.ts'
import { touchEvery } from './vital-signs.ts'

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

/** With those that are not counted: an end to it all the same. */
const mostFalls = 8

/** Workers that fall silent within so many seconds do so for one reason. */
const atOnce = 10

/** How often a queue is looked over, in milliseconds. */
export const sweepEvery = 3_000

/** Claims of an operation that are taken back at once, at most; a process holds two batches. */
const mostAtOnce = 1_000

/** Enters the operations among those that are swept. */
export async function enterSweeps({ kysely }: Database, names: readonly string[]): Promise<void> {
  await sql`
    insert into accepted.sweep (operation) select unnest(${names}::text[]) on conflict do nothing`.execute(kysely)
}

/**
 * Takes back the jobs of workers that fell silent: that were killed, crashed, were cut off, or have been busy in one
 * handler for longer than a heartbeat. Which of these it was cannot be seen from here, nor whose fault it was. So
 * nobody's attempt is spent, and each of the jobs is suspect: it runs again alone. With one that silences a worker alone
 * twice it is certain enough, and it has failed. When another worker falls silent at the same time, it was something else:
 * a machine, a kill from outside.
 */
export async function takeBackSilent(database: Database, lanes: readonly Lane[]): Promise<void> {
  const silent = Map.groupBy(await sweepInTurn(database, lanes), ({ name }) => name)
  for (const lane of lanes) {
    const rows = silent.get(lane.operation.name)
    if (!rows) continue
    const found = rows.map((row) => claimOf(row, false))
    try {
      const { jobs, hints, outcomes } = await database.kysely
        .transaction()
        .execute((trx) => takeBack(lane, trx as unknown as AnyTransaction, found))
      if (jobs.length > 0) lane.log.warn({ jobs }, 'Taken back from a worker that fell silent')
      lane.metrics.countOutcomes(lane.operation.name, outcomes)
      lane.hints.notify('status', jobs)
      lane.hints.notify('work', hints)
    } catch (err) {
      if (isOutage(err)) throw err
      lane.log.error({ err }, 'Jobs could not be taken back from a worker that fell silent; it is tried again')
    }
  }
}

interface SilentRow {
  name: string
  id: string
  retryCount: number
  data: QueueData
}

/** The overdue jobs of the operations whose turn is ours: each is swept once in a while, however many workers there are. */
async function sweepInTurn({ kysely }: Database, lanes: readonly Lane[]): Promise<SilentRow[]> {
  const names = lanes.map(({ operation }) => operation.name)
  const { rows } = await sql<SilentRow>`
    with ours as materialized (
      update accepted.sweep set swept_at = now()
      where operation in (
        select operation from accepted.sweep
        where operation = any(${names}) and swept_at < now() - make_interval(secs => ${sweepEvery / 1000})
        for update skip locked
      )
      returning operation
    )
    select name, id, retry_count as "retryCount", data
    from unnest(
      ${names}::text[],
      ${lanes.map(({ operation }) => operation.heartbeatSeconds)}::integer[]
    ) as heartbeat (operation, seconds)
    join ours using (operation)
    cross join lateral (
      select name, id, retry_count, data from pgboss.job
      where name = heartbeat.operation and state = 'active' and started_on is not null and ${overdue(sql`heartbeat.seconds`)}
      order by heartbeat_on limit ${mostAtOnce}
    ) as silent`.execute(kysely)
  return rows
}

async function takeBack(
  lane: Lane,
  trx: AnyTransaction,
  found: readonly Claim[],
): Promise<{ jobs: string[] } & Settled> {
  const { claims, pending } = await lockHeld(lane, trx, found, { silent: true })
  const isCanceled = ({ jobId }: Claim) => pending.get(jobId)?.cancel_requested === true
  const ended = claims.filter(({ jobId }) => !pending.has(jobId))
  const canceled = claims.filter(isCanceled)
  const lost = claims.filter((claim) => pending.has(claim.jobId) && !isCanceled(claim))
  const crashes = await countCrashes(lane, trx, lost)
  const isKiller = ({ jobId }: Claim) => crashes.get(jobId)?.isTooMany === true
  const killers = lost.filter(isKiller)
  const again = lost.filter((claim) => !isKiller(claim))
  await writeAttempts(trx, lost, pending, workerLost)
  const endings = [...(await writeCanceled(trx, canceled)), ...(await writeFailed(trx, killers, workerCrashed))]
  for (const claim of killers) await lane.claims.fail(trx, claim, workerCrashed, 'never')
  await lane.claims.complete(trx, [...canceled, ...ended])
  await writeRetried(trx, again, true)
  await lane.claims.takeBack(trx, again, crashes.size > 0)
  return {
    jobs: claims.map(({ jobId }) => jobId),
    hints: [lane.operation.name, ...(await enqueueDeliveries(lane.boss, trx, endings))],
    outcomes: { taken_back: again.length, failed: killers.length, canceled: canceled.length },
  }
}

/**
 * Counts that a worker fell silent with each of the jobs, which ran alone unless it was for the first time, and unless
 * another worker has missed its touches, or has been found silent, at the same time: since it was counted the last time,
 * for the jobs that fell with it then were in the same hands. The deliveries are our own code.
 */
async function countCrashes(
  lane: Lane,
  trx: AnyTransaction,
  claims: readonly Claim[],
): Promise<Map<string, { isTooMany: boolean }>> {
  if (claims.length === 0 || lane.operation.name === deliveryName) return new Map()
  const { rows } = await sql<{ job_id: string; crashes: number; falls: number }>`
    insert into accepted.suspect (job_id, operation, queue_id, crashes)
    select distinct on (job_id) job_id, ${lane.operation.name}, queue_id, 1
    from unnest(
      ${claims.map(({ jobId }) => jobId)}::uuid[],
      ${claims.map(({ queued }) => queued.id)}::uuid[]
    ) as lost (job_id, queue_id)
    on conflict on constraint suspect_pkey do update set
      crashes = suspect.crashes + case
        when exists (
          select from pgboss.job other
          where other.state = 'active' and other.started_on is not null
            and other.heartbeat_on < now() - make_interval(secs => ${(2 * touchEvery) / 1000})
            and (other.name, other.id) <> (excluded.operation, excluded.queue_id)
        ) or exists (
          select from accepted.suspect other
          where other.job_id <> excluded.job_id
            and other.crashed_at > greatest(suspect.crashed_at, now() - make_interval(secs => ${atOnce}))
        ) then 0 else 1
      end,
      falls = suspect.falls + 1, crashed_at = now(), reserved_until = now(), queue_id = excluded.queue_id
    returning job_id, crashes, falls`.execute(trx)
  return new Map(
    rows.map(({ job_id, crashes, falls }) => [job_id, { isTooMany: crashes >= mostCrashes || falls >= mostFalls }]),
  )
}
