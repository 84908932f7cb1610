import { until } from '../../support/until.ts'
import { startFaultProxy } from '../proxy.ts'
import type { Row, Stage } from '../stage.ts'
import { findWaiting, hold } from './locks.ts'
import { executed, submit } from './processes.ts'

/** Held up there, a worker has claimed jobs, and has neither begun nor settled them. */
const pendingJobs = "select from accepted.job where state = 'queued' for update"

const beforePerform: Row = {
  name: 'worker-dies-before-perform',
  waits: true,
  summary: 'SIGKILL of a worker between claim and begin: executed once, effect once',
  workers: 0,
  async story(stage) {
    const jobs = 5
    await submit(stage, '/performed', jobs)
    await using held = await hold(stage, pendingJobs)
    const doomed = await stage.open('worker')
    doomed.start()
    await until(async () => (await findWaiting(stage, '%accepted.job%')).length > 0)
    await doomed.end('SIGKILL')
    await held.letGo()
    const before = await executed(stage)
    await startOther(stage)
    return {
      faults: 1,
      findings: before > 0 ? [`${before} were executed before the worker died: nothing was tested`] : [],
      after: () => executedOnce(stage, jobs),
    }
  },
}

/** A worker dies when Postgres has committed its settle, and the answer has not come. */
const afterCommit = (path: string): Row => ({
  name: `worker-dies-after-commit${path === '/settled' ? '-batch' : ''}`,
  waits: true,
  summary: `SIGKILL of a worker after COMMIT, before the answer (${path.slice(1)}): executed once, effect once`,
  workers: 0,
  async story(stage) {
    // Those that are performed end when they like, and not in one batch.
    const jobs = path === '/settled' ? 5 : 1
    // Of its own, for the API is to get its answers.
    const way = await startFaultProxy(stage.server.port)
    try {
      await submit(stage, path, jobs)
      // Otherwise they would not be all in one batch.
      await using held = await hold(stage, pendingJobs)
      const doomed = await stage.open('worker', { databaseUrl: () => way.urlOf(stage.databaseUrl) })
      doomed.start({ HANG: 'settle' })
      await until(async () => (await findWaiting(stage, '%accepted.job%')).length > 0)
      await held.letGo()
      await until(async () => (await countSettling(stage)) === 1)
      way.set({ withoutCommitAnswers: true })
      await until(async () => {
        // One may have written, and not wait yet.
        doomed.goOn()
        return (await countJobs(stage, "state = 'succeeded'")) === jobs && way.faults() > 0
      })
      await doomed.end('SIGKILL')
    } finally {
      await way.close()
    }
    const [{ batches }] = await stage.query('select count(distinct xmin::text)::integer as batches from effect')
    await startOther(stage)
    const findings = batches === 1 ? [] : [`${batches} transactions had settled them, not one`]
    return { faults: 1, findings, after: () => executedOnce(stage, jobs) }
  },
})

const countJobs = async ({ query }: Stage, which: string): Promise<number> =>
  Number((await query(`select count(*) from accepted.job where ${which}`))[0].count)

/** Transactions whose handler has written, and waits. */
const countSettling = async ({ query }: Stage): Promise<number> =>
  Number(
    (
      await query(`
        select count(*) from pg_stat_activity
        where datname = current_database() and application_name = 'accepted worker'
          and state = 'idle in transaction' and query like 'insert into "effect"%'`)
    )[0].count,
  )

async function startOther(stage: Stage): Promise<void> {
  const other = await stage.open('worker')
  other.start()
  await other.ready()
}

async function executedOnce(stage: Stage, expected: number): Promise<string[]> {
  const count = await executed(stage)
  return count === expected ? [] : [`${count} executions of ${expected} jobs`]
}

export const deaths = [beforePerform, afterCommit('/performed'), afterCommit('/settled')]
