import { sql } from 'kysely'
import { rowLock } from '../../src/db/locks.ts'
import type { Notifier } from '../../src/db/notifier.ts'
import { transact } from '../../src/db/transaction.ts'
import { enqueue } from '../../src/jobs/enqueue.ts'
import { insertBatch } from '../../src/jobs/enqueue-batch.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import { createTimeSlice } from '../../src/primitives/time-slice.ts'
import type { Schedule } from '../../src/schedule.ts'
import { createJob, nextOccurrence, payloadAt } from './occurrences.ts'
import { type SchedulerContext, scheduleTime } from './schedule-context.ts'

/** A request of `accepted.run_schedule`, or of `accepted.backfill_schedule` if it has a range. */
interface Request {
  id: string
  since: Date | null
  until: Date | null
  max_jobs: number | null
  requested_at: Date
}

/** A range of time, without its end. */
interface Range {
  since: Date
  until: Date
}

/** A request that no worker has taken for this time lapses: its jobs would come unexpectedly late. */
const lapsesAfter = sql`interval '1 day'`

/** Finds the requests for the schedules of this worker, the oldest first. Deletes the requests that have lapsed. */
export async function findRequests({
  database,
  schedules,
  log,
}: SchedulerContext): Promise<{ id: string; schedule: string }[]> {
  if (schedules.size === 0) return []
  const { rows } = await sql<{ id: string; schedule: string; has_lapsed: boolean }>`
    with lapsed as (
      delete from accepted.schedule_request where requested_at < now() - ${lapsesAfter}
      returning id, schedule, requested_at
    )
    select id, schedule, requested_at, true as has_lapsed from lapsed
    union all
    select id, schedule, requested_at, false from accepted.schedule_request
    where schedule = any(${[...schedules.keys()]}::text[]) and requested_at >= now() - ${lapsesAfter}
    order by requested_at, id`.execute(database.kysely)
  for (const { id, schedule, has_lapsed: hasLapsed } of rows) {
    if (hasLapsed)
      log.warn({ schedule, job: id }, 'Requested run of a schedule has lapsed: no worker could do it in a day')
  }
  return rows.filter(({ has_lapsed: hasLapsed }) => !hasLapsed)
}

/** Creates the jobs of a request and deletes the request, in one transaction. */
export async function fulfil(
  context: SchedulerContext,
  schedule: Schedule,
  id: string,
  notifier: Notifier,
): Promise<void> {
  const { name, expression, timezone, operation } = schedule
  const jobs = await transact(context.database, async (trx) => {
    // The lock of the schedule keeps an occurrence from becoming two jobs. There is no row when another worker holds it,
    // or when another release has changed the definition; then a worker of that release takes the request.
    const { rows: locked } = await sql`
      select from accepted.schedule
      where name = ${name} and operation = ${operation.name} and expression = ${expression} and timezone = ${timezone}
      ${rowLock.skip}`.execute(trx)
    if (locked.length === 0) return undefined
    const { rows } = await sql<Request>`
      delete from accepted.schedule_request where id = ${id}
      returning id, since, until, max_jobs, requested_at`.execute(trx)
    const [request] = rows
    return request && (request.since ? backfill : run)(context, schedule, request, trx)
  })
  if (jobs === undefined) return
  context.log.info({ schedule: name, job: id, jobs }, 'Requested run of a schedule enqueued')
  notifier.notify('work', [operation.name])
  notifier.notify('status', [id])
}

async function run(
  { boss, seals }: SchedulerContext,
  schedule: Schedule,
  { id, requested_at: at }: Request,
  trx: AnyTransaction,
): Promise<number> {
  const { name, operation, principal } = schedule
  await enqueue(boss, trx, [{ id, operation, payload: payloadAt(schedule, at), principal }], seals)
  await sql`update accepted.schedule set last_at = ${at}, last_job_id = ${id} where name = ${name}`.execute(trx)
  return 1
}

async function backfill(
  context: SchedulerContext,
  schedule: Schedule,
  request: Request,
  trx: AnyTransaction,
): Promise<number> {
  const { boss, seals } = context
  const { name, principal } = schedule
  // The scheduler itself handles the occurrences from next_at on.
  const { rows: gaps } = await sql<Range>`
    select lower(gap) as since, upper(gap) as until
    from accepted.schedule, unnest(tstzmultirange(tstzrange(
      ${request.since}, greatest(${request.since}, least(${request.until}, next_at, ${scheduleTime(context)}))
    )) - done) gap
    where name = ${name}
    order by gap`.execute(trx)
  const missed = await findMissed(boss, schedule, gaps, request.max_jobs as number)
  const children = missed.map(({ since }) => createJob(schedule, since))
  await insertBatch(trx, { id: request.id, principal, children, allowFailures: true }, seals)
  await sql`
    update accepted.schedule set done = done + coalesce((
      select range_agg(tstzrange(since, until))
      from unnest(${missed.map(({ since }) => since)}::timestamptz[], ${missed.map(({ until }) => until)}::timestamptz[])
        as made (since, until)
    ), '{}')
    where name = ${name}`.execute(trx)
  return children.length
}

/**
 * Finds the occurrences in ranges of time, the oldest first.
 *
 * @returns for each occurrence, the time from it to the following occurrence; null if none follows
 */
async function findMissed(
  boss: SchedulerContext['boss'],
  schedule: Schedule,
  gaps: readonly Range[],
  maxOccurrences: number,
): Promise<{ since: Date; until: Date | null }[]> {
  const found: { since: Date; until: Date | null }[] = []
  const endSlice = createTimeSlice()
  for (const { since, until } of gaps) {
    let occurrence = nextOccurrence(boss, schedule, new Date(since.getTime() - 1))
    while (occurrence && occurrence < until && found.length < maxOccurrences) {
      const following = nextOccurrence(boss, schedule, occurrence)
      found.push({ since: occurrence, until: following })
      occurrence = following
      await endSlice()
    }
  }
  return found
}
