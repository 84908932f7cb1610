import { until } from '../../support/until.ts'
import { ticked, tokenOf } from '../app/operations.ts'
import type { Row, Stage } from '../stage.ts'
import { findWaiting, hold } from './locks.ts'

export const schedule: Row = {
  name: 'schedule',
  waits: true,
  summary:
    'SIGKILL of all workers while one fires a schedule, and right after: each occurrence becomes one job, with one effect',
  apis: 0,
  workers: 2,
  place: { env: { EVERY_SECOND: 'yes' } },
  async story(stage) {
    const rounds = stage.short ? 1 : 3
    for (let round = 0; round < rounds; round++) {
      const before = await fired(stage, new Date(0))
      if (round % 2 === 0) await killWhileFiring(stage)
      else {
        await fired(stage, before)
        killAll(stage)
      }
      await Promise.all(stage.workers.map((worker) => worker.ready()))
    }
    await fired(stage, await fired(stage, new Date(0)))
    const occurrences = await writeDown(stage)
    return { faults: rounds * stage.workers.length, notes: [`${occurrences} occurrences`] }
  },
}

/** Waits until the schedule has fired for an occurrence after this one; answers the last. */
const fired = ({ query }: Stage, after: Date): Promise<Date> =>
  until(async () => {
    const [row] = await query('select last_at from accepted.schedule where last_at > $1', [after])
    return row?.last_at
  })

const killAll = ({ workers }: Stage) => {
  for (const worker of workers) worker.signal('SIGKILL')
}

/** The job is there, and the schedule has not moved on. */
async function killWhileFiring(stage: Stage): Promise<void> {
  // Lets its row be locked, but not changed.
  await using held = await hold(stage, 'lock table accepted.schedule in share mode')
  await until(async () => (await findWaiting(stage, '%update accepted.schedule set%')).length > 0)
  killAll(stage)
  await held.letGo()
}

/**
 * Stops the schedule, and writes into the journal what it promises: a job for each second, up to the one that it has come
 * to. None was missed, for a worker is back within a minute.
 *
 * @returns how many they are
 */
async function writeDown({ query, journal }: Stage): Promise<number> {
  const [{ last_at: last }] = await query('update accepted.schedule set paused = true returning last_at')
  const jobs: { id: string; token: string }[] = await query(
    `select id, data -> 'payload' ->> 'token' as token from pgboss.job where name = $1 order by token`,
    [ticked.name],
  )
  const byToken = Map.groupBy(jobs, ({ token }) => token)
  const first = jobs[0]?.token.replace('tick ', '') ?? last
  let count = 0
  for (let at = new Date(first); at <= last; at = new Date(at.getTime() + 1_000)) {
    const token = tokenOf(at)
    await journal.append({ token, happening: 'invoked' })
    for (const { id } of byToken.get(token) ?? [{ id: 'no job' }]) {
      await journal.append({ token, happening: 'acknowledged', job: id })
    }
    count += 1
  }
  return count
}
