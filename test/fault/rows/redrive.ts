import { join } from 'node:path'
import { run } from '../../support/command.ts'
import { failing } from '../app/operations.ts'
import { killBusyWorker } from '../executions.ts'
import { holdLock, untilBlocked } from '../locks.ts'
import { type Row, type RowContext, waitUntilDrained } from '../row.ts'
import { submit } from '../submit.ts'

export const redrive: Row = {
  name: 'redrive',
  summary:
    'Two processes redrive all failed jobs at the same time, and a busy worker is killed. Each failed job gets one retry, and every effect happens once.',
  async run(context) {
    const jobCount = context.isShort ? 20 : 120
    const tokens = await submit(context, '/failing', jobCount, { durationMs: 200 })
    await waitUntilDrained(context, 60)
    await permit(context, tokens.slice(0, jobCount / 2))
    const [first] = await Promise.all([redriveTwiceAtOnce(context), killBusyWorker(context, ...context.workers)])
    await waitUntilDrained(context, 120)
    await permit(context, tokens.slice(jobCount / 2))
    const second = await redriveTwiceAtOnce(context)
    await waitUntilDrained(context, 60)
    const third = await runRedrive(context)
    const wrongCounts = [
      { time: 'first', count: first, expected: jobCount },
      { time: 'second', count: second, expected: jobCount / 2 },
      { time: 'third', count: third, expected: 0 },
    ].filter(({ count, expected }) => count !== expected)
    return {
      faultCount: 1,
      findings: wrongCounts.map(
        ({ time, count, expected }) => `The ${time} redrive retried ${count} jobs instead of ${expected}`,
      ),
      checkAfterDrain: () => findWrongRetries(context),
    }
  },
}

/** Makes the jobs of these tokens succeed from now on. */
const permit = ({ query }: RowContext, tokens: readonly string[]) =>
  query('insert into permission (token) select unnest($1::text[])', [tokens])

/** Runs two redrives that read the failed jobs at the same time. Returns how many jobs they retried in total. */
async function redriveTwiceAtOnce(context: RowContext): Promise<number> {
  // An access exclusive lock blocks every read of the table, even a read that takes no row locks.
  await using lock = await holdLock(context, 'lock table accepted.job in access exclusive mode')
  const counts = Promise.all([runRedrive(context), runRedrive(context)])
  const findsFailedJobs = '%from accepted.redrive_batch(%'
  // If a redrive fails before it reaches the lock, the race rejects at once.
  await Promise.race([counts, untilBlocked(context, findsFailedJobs, 2)])
  await lock.release()
  const [one, other] = await counts
  return one + other
}

async function runRedrive({ databaseUrl }: RowContext): Promise<number> {
  const config = join(import.meta.dirname, '../app/accepted.config.ts')
  const args = ['jobs', 'redrive', '--config', config, '--operation', failing.name, '--json']
  const { code, out, err } = await run(args, { DATABASE_URL: databaseUrl })
  if (code !== 0) throw new Error(`accepted jobs redrive exited with code ${code}: ${err}`)
  return JSON.parse(out).redriven
}

/** Reports jobs with more than one retry, and jobs that neither succeeded nor have a retry. */
async function findWrongRetries({ query }: RowContext): Promise<string[]> {
  const [{ twice, left }] = await query(`
    select
      (
        select count(*)::integer from (
          select from accepted.job where retry_of is not null group by retry_of having count(*) > 1
        ) as retried
      ) as twice,
      (
        select count(*)::integer from accepted.job
        where status <> 'succeeded' and not exists (select from accepted.job retry where retry.retry_of = job.id)
      ) as left`)
  return [
    ...(twice > 0 ? [`${twice} jobs have more than one retry`] : []),
    ...(left > 0 ? [`${left} jobs failed and have no retry`] : []),
  ]
}
