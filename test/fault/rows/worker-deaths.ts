import { until } from '../../support/until.ts'
import { countExecutions } from '../executions.ts'
import { holdLock, untilBlocked } from '../locks.ts'
import { startFaultProxy } from '../proxy.ts'
import type { Row, RowContext } from '../row.ts'
import { submit } from '../submit.ts'

/** Locks the queued jobs. While the lock is held, a worker can claim these jobs but cannot begin them. */
const lockQueuedJobs = "select from accepted.job where status = 'queued' for update"
const blockedByLock = '%accepted.job%'

const pathSuffix = (path: string) => (path === '/settled' ? '-batch' : '')

const diesBeforePerform: Row = {
  name: 'worker-dies-before-perform',
  summary: 'A worker is killed after it has claimed jobs and before it begins them. Each job is executed once.',
  isMostlyWaiting: true,
  workerCount: 0,
  async run(context) {
    const jobCount = 5
    await submit(context, '/performed', jobCount)
    await using lock = await holdLock(context, lockQueuedJobs)
    const worker = await context.createProcess('worker')
    worker.start()
    await untilBlocked(context, blockedByLock)
    await worker.end('SIGKILL')
    await lock.release()
    const executedBefore = await countExecutions(context)
    await startAnotherWorker(context)
    return {
      faultCount: 1,
      findings: executedBefore > 0 ? [`${executedBefore} jobs ran before the kill, so nothing was tested`] : [],
      checkAfterDrain: () => findRepeatedExecutions(context, jobCount),
    }
  },
}

/** Kills a worker while its handlers hang. */
const diesIn = (phase: 'perform' | 'settle', path: string): Row => ({
  name: `worker-dies-in-${phase}${pathSuffix(path)}`,
  summary: `A worker is killed during ${phase} (${path}). Every effect happens once.`,
  isMostlyWaiting: true,
  workerCount: 0,
  async run(context) {
    const worker = await context.createProcess('worker')
    worker.start({ HANG: phase })
    const hangs = worker.untilHandlerHangs()
    await submit(context, path, 5)
    await hangs
    await worker.end('SIGKILL')
    await startAnotherWorker(context)
    return { faultCount: 1 }
  },
})

const diesAfterCommit = (path: string): Row => ({
  name: `worker-dies-after-commit${pathSuffix(path)}`,
  summary: `A worker is killed after COMMIT, before it receives the reply (${path}). Each job is executed once.`,
  isMostlyWaiting: true,
  workerCount: 0,
  async run(context) {
    // Jobs of /performed end at different times. Several jobs might therefore commit in several transactions.
    const jobCount = path === '/settled' ? 5 : 1
    // The worker has a separate proxy, because the API has to receive its replies.
    const proxy = await startFaultProxy(context.server.port)
    try {
      // The worker starts after the last submit, so that it claims all jobs in one batch.
      await submit(context, path, jobCount)
      const worker = await context.createProcess('worker', { databaseUrl: () => proxy.urlOf(context.databaseUrl) })
      worker.start({ HANG: 'settle' })
      await until(async () => (await countHangingSettles(context)) === 1)
      proxy.setFault({ dropCommitReplies: true })
      await until(async () => {
        // The message is sent repeatedly, because the handler may not listen for it yet.
        worker.resumeHandler()
        return (await countSucceeded(context)) === jobCount && proxy.faultCount() > 0
      })
      await worker.end('SIGKILL')
    } finally {
      await proxy.close()
    }
    const [{ batches }] = await context.query('select count(distinct xmin::text)::integer as batches from effect')
    await startAnotherWorker(context)
    const findings = batches === 1 ? [] : [`${batches} transactions settled the jobs instead of one`]
    return { faultCount: 1, findings, checkAfterDrain: () => findRepeatedExecutions(context, jobCount) }
  },
})

async function countSucceeded({ query }: RowContext): Promise<number> {
  const [{ count }] = await query("select count(*)::integer as count from accepted.job where status = 'succeeded'")
  return count
}

/** Counts the open transactions in which a handler has written its effects and hangs. */
async function countHangingSettles({ query }: RowContext): Promise<number> {
  const [{ count }] = await query(`
    select count(*)::integer as count from pg_stat_activity
    where datname = current_database() and application_name ~ '^accepted worker [^ ]+$'
      and state = 'idle in transaction' and query like 'update "domain"%'`)
  return count
}

async function startAnotherWorker(context: RowContext): Promise<void> {
  const worker = await context.createProcess('worker')
  worker.start()
  await worker.ready()
}

async function findRepeatedExecutions(context: RowContext, jobCount: number): Promise<string[]> {
  const executionCount = await countExecutions(context)
  return executionCount === jobCount ? [] : [`${jobCount} jobs were executed ${executionCount} times`]
}

export const workerDeaths = [
  diesBeforePerform,
  diesIn('perform', '/performed'),
  diesIn('settle', '/performed'),
  diesIn('settle', '/settled'),
  diesAfterCommit('/performed'),
  diesAfterCommit('/settled'),
]
