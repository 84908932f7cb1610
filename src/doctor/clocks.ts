import { sql } from 'kysely'
import { formatNumber } from '../primitives/format-count.ts'
import { type Check, findingsOf } from './check.ts'

/** Compares the clock of the database with that of this machine. */
export const clock: Check = {
  name: 'clocks',
  async run({ database, limits, now, note }) {
    const before = now()
    const { rows } = await database.pool.query<{ ms: number }>(
      'select extract(epoch from clock_timestamp())::float8 * 1000 as ms',
    )
    const after = now()
    const ms = rows[0]?.ms ?? before
    // What the round trip may explain is no difference.
    const skew = (ms < before ? ms - before : ms > after ? ms - after : 0) / 1_000
    note(`this machine and the database differ by at most ${((after - before) / 1_000 + Math.abs(skew)).toFixed(2)} s`)
    return findingsOf(
      Math.abs(skew) >= limits.clockSkewSeconds && {
        code: 'clock-skew',
        severity: 'warning',
        message: `The clock of the database is ${formatNumber(Math.abs(skew))} s ${skew > 0 ? 'ahead of' : 'behind'} the clock of this machine.`,
        action: 'Synchronise both clocks with NTP: timedatectl, chronyc tracking',
        details: { seconds: skew },
      },
    )
  },
}

interface FutureTimes {
  heartbeat: number
  job: number
  job_id: string | null
}

/** Looks for times that have not come yet. */
export const futureTimes: Check = {
  name: 'times in the future',
  async run({ query, limits }) {
    const [row] = await query(sql<FutureTimes>`
      select
        coalesce(extract(epoch from (select max(heartbeat_at) from accepted.worker) - clock_timestamp()), 0)::float8
          as heartbeat,
        coalesce(extract(epoch from accepted.uuid_time(newest.id) - clock_timestamp()), 0)::float8 as job,
        newest.id::text as job_id
      from (values (1)) as one (row)
      left join (select id from accepted.job order by id desc limit 1) newest on true`)
    if (!row) return []
    const { heartbeat, job, job_id } = row
    return findingsOf(
      heartbeat >= limits.clockSkewSeconds && {
        code: 'heartbeat-in-future',
        severity: 'warning',
        message: `A worker's heartbeat is ${formatNumber(heartbeat)} s in the future: the clock of the database was set back. Until then, the worker counts as alive.`,
        action: 'Restart the workers, and synchronise the clock of the database with NTP.',
        details: { seconds: heartbeat },
      },
      job >= limits.clockSkewSeconds && {
        code: 'job-in-future',
        severity: 'warning',
        message: `The id of the job ${job_id} was made ${formatNumber(job)} s in the future: the clock of a process that accepts jobs is wrong.`,
        action: 'Synchronise the clocks of the machines that accept jobs with NTP.',
        details: { jobId: job_id, seconds: job },
      },
    )
  },
}
