import { join } from 'node:path'
import { run } from '../../support/command.ts'
import { until } from '../../support/until.ts'
import { faulty } from '../app/operations.ts'
import { drain, type Row, type Stage } from '../stage.ts'
import { findWaiting, hold } from './locks.ts'
import { submit } from './processes.ts'
import { killAtWork } from './spans.ts'

export const redrives: Row = {
  name: 'redrive',
  summary:
    'failed jobs are redriven by two processes at once, and what fails again once more, a worker is killed meanwhile: one retry of each, one effect each, none is left',
  async story(stage) {
    const jobs = stage.short ? 20 : 120
    const tokens = await submit(stage, '/faulty', jobs, { takes: 200 })
    await drain(stage, 60)
    await permit(stage, tokens.slice(0, jobs / 2))
    const [first] = await Promise.all([redriveAtOnce(stage), killAtWork(stage, ...stage.workers)])
    await drain(stage, 120)
    await permit(stage, tokens.slice(jobs / 2))
    const second = await redriveAtOnce(stage)
    await drain(stage, 60)
    const third = await redrive(stage)
    const wrong = [
      { time: 'first', count: first, expected: jobs },
      { time: 'second', count: second, expected: jobs / 2 },
      { time: 'third', count: third, expected: 0 },
    ].filter(({ count, expected }) => count !== expected)
    return {
      faults: 1,
      findings: wrong.map(({ time, count, expected }) => `The ${time} time ${count} were redriven, not ${expected}`),
      after: () => findLeft(stage),
    }
  },
}

const permit = ({ query }: Stage, tokens: readonly string[]) =>
  query('insert into permission (token) select unnest($1::text[])', [tokens])

/** By two processes that get the failed jobs at the same time; answers how many they say they have redriven. */
async function redriveAtOnce(stage: Stage): Promise<number> {
  // Every look at the jobs waits, whether it locks them or not.
  await using held = await hold(stage, 'lock table accepted.job in access exclusive mode')
  const counts = Promise.all([redrive(stage), redrive(stage)])
  const looks = "%from accepted.job%state = 'failed' and id >%"
  // Should one of them fail, it is to be known.
  await Promise.race([counts, until(async () => (await findWaiting(stage, looks)).length === 2)])
  await held.letGo()
  const [one, other] = await counts
  return one + other
}

async function redrive({ databaseUrl }: Stage): Promise<number> {
  const config = join(import.meta.dirname, '../app/accepted.config.ts')
  const command = ['jobs', 'redrive', '--config', config, '--operation', faulty.name, '--json']
  const { code, out, err } = await run(command, { DATABASE_URL: databaseUrl })
  if (code !== 0) throw new Error(`redrive exited ${code}: ${err}`)
  return JSON.parse(out).redriven
}

/** Each failed job has one retry, and the last of them has succeeded. */
async function findLeft({ query }: Stage): Promise<string[]> {
  const [{ twice, left }] = await query(`
    select
      (
        select count(*)::integer from (
          select from accepted.job where retry_of is not null group by retry_of having count(*) > 1
        ) as retried
      ) as twice,
      (
        select count(*)::integer from accepted.job
        where state <> 'succeeded' and not exists (select from accepted.job retry where retry.retry_of = job.id)
      ) as left`)
  return [
    ...(twice > 0 ? [`${twice} jobs were redriven twice`] : []),
    ...(left > 0 ? [`${left} jobs are left failed, without a retry`] : []),
  ]
}
