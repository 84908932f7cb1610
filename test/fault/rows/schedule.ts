import { until } from '../../support/until.ts'
import { scheduledTick, tokenOf } from '../app/operations.ts'
import { holdLock, untilBlocked } from '../locks.ts'
import type { Row, RowContext } from '../row.ts'

export const schedule: Row = {
  name: 'schedule',
  summary:
    'All workers are killed while one of them fires a schedule, or right after it has fired. Each occurrence becomes one job with one effect.',
  isMostlyWaiting: true,
  apiCount: 0,
  workerCount: 2,
  processOptions: { env: { EVERY_SECOND: 'yes' } },
  async run(context) {
    const rounds = context.isShort ? 1 : 3
    for (let round = 0; round < rounds; round++) {
      const last = await untilFired(context, new Date(0))
      if (round % 2 === 0) await killWhileFiring(context)
      else {
        await untilFired(context, last)
        killWorkers(context)
      }
      await Promise.all(context.workers.map((worker) => worker.ready()))
    }
    await untilFired(context, await untilFired(context, new Date(0)))
    const occurrences = await writeExpectedJobs(context)
    return { faultCount: rounds * context.workers.length, notes: [`${occurrences} occurrences`] }
  },
}

/** Waits until the schedule has fired an occurrence later than `after`. Returns the time of its last occurrence. */
const untilFired = ({ query }: RowContext, after: Date): Promise<Date> =>
  until(async () => {
    const [row] = await query('select last_at from accepted.schedule where last_at > $1', [after])
    return row?.last_at
  })

const killWorkers = ({ workers }: RowContext) => {
  for (const worker of workers) worker.signal('SIGKILL')
}

/** Kills the workers while a transaction has inserted a job, but has not yet updated its schedule. */
async function killWhileFiring(context: RowContext): Promise<void> {
  // A share lock on the table allows row locks but no updates.
  await using lock = await holdLock(context, 'lock table accepted.schedule in share mode')
  await untilBlocked(context, '%update accepted.schedule set%')
  killWorkers(context)
  await lock.release()
}

/**
 * Pauses the schedule. Writes the jobs that the schedule must have created into the journal: one job for each second
 * from the first occurrence to the last one. No occurrence may be missing, because a worker is up within a minute.
 *
 * @returns the number of occurrences
 */
async function writeExpectedJobs({ query, journal }: RowContext): Promise<number> {
  const [{ last_at: last }] = await query('update accepted.schedule set paused = true returning last_at')
  // One transaction writes the effect of a job and deletes its queue row, so the union finds every job.
  const jobs: { id: string; token: string }[] = await query(
    `select id, data -> 'payload' ->> 'token' as token from accepted_queue.job where name = $1
    union
    select job_id, token from effect
    order by token`,
    [scheduledTick.name],
  )
  const byToken = Map.groupBy(jobs, ({ token }) => token)
  const first = jobs[0]?.token.replace('tick ', '') ?? last
  let count = 0
  for (let at = new Date(first); at <= last; at = new Date(at.getTime() + 1_000)) {
    const token = tokenOf(at)
    await journal.append({ token, event: 'invoked' })
    for (const { id } of byToken.get(token) ?? [{ id: 'no job' }]) {
      await journal.append({ token, event: 'acknowledged', job: id })
    }
    count += 1
  }
  return count
}
