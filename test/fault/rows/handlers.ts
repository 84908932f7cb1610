import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { until } from '../../support/until.ts'
import { blocking } from '../app/operations.ts'
import { countExecutions } from '../executions.ts'
import type { Row } from '../row.ts'
import { submit } from '../submit.ts'
import type { SupervisedProcess } from '../supervised-process.ts'

/**
 * The age of a heartbeat that has been overdue for 4 s. By then, a rescuer has checked the job. The watchdog kills the
 * worker later, at twice `heartbeatSeconds`.
 */
const overdueSeconds = blocking.heartbeatSeconds + 4

export const blockedEventLoop: Row = {
  name: 'blocked-event-loop',
  summary:
    'Handlers block the event loop until heartbeats are overdue. A job in perform is rescued, and its late settle is rolled back. A job in settle is not rescued. No process dies.',
  isMostlyWaiting: true,
  workerCount: 3,
  async run(context) {
    const file = (name: string) => join(context.directory, `executions-${name}`)
    for (const phase of ['perform', 'settle']) {
      await submit(context, '/blocking', 1, { blockIn: phase })
      await until(() => existsSync(file(`blocked-${phase}`)))
    }
    await until(async () => {
      const [{ ended, overdue }] = await context.query(
        `select
          (select count(*)::integer from accepted.job where status = 'succeeded') as ended,
          (
            select count(*)::integer from accepted_queue.job
            where data -> 'payload' ->> 'blockIn' = 'settle' and heartbeat_on < now() - make_interval(secs => $1)
          ) as overdue`,
        [overdueSeconds],
      )
      return ended === 1 && overdue === 1
    })
    writeFileSync(file('unblock'), '')
    const checkAfterDrain = async () => {
      // Another worker has run the rescued job, so the blocked worker must find that its own claim is lost.
      await until(async () => (await countLostClaims(context.workers)) === 1)
      const executionCount = await countExecutions(context)
      return executionCount === 3 ? [] : [`${executionCount} executions instead of 3: two performs and one settle`]
    }
    return { faultCount: 2, checkAfterDrain }
  },
}

/** Counts the attempts with the outcome `lost` in the metrics of all workers. */
async function countLostClaims(workers: readonly SupervisedProcess[]): Promise<number> {
  const counts = workers.map(async ({ url }) => {
    const text = await (await fetch(`${url}/metrics`)).text()
    return Number(text.match(/^accepted_attempts_total\{.*outcome="lost".*\} (\d+)$/m)?.[1] ?? 0)
  })
  return (await Promise.all(counts)).reduce((sum, count) => sum + count, 0)
}

const unawaitedPatterns = ['concurrent', 'concurrent-always', 'unawaited', 'past-rollback', 'past-commit']

const tokensExpectedToFail = new Set<string>()

export const unawaitedStatements: Row = {
  name: 'unawaited-statements',
  summary:
    'settle does not await its statements. Each write commits together with the effect of its job, or not at all. The other jobs of the batch spend no attempt.',
  workerCount: 0,
  isExpectedToFail: (token) => tokensExpectedToFail.has(token),
  async run(context) {
    const jobsPerPattern = context.isShort ? 2 : 10
    const neighbors: string[] = []
    for (let n = 0; n < jobsPerPattern; n++) {
      for (const statements of unawaitedPatterns) {
        const tokens = await submit(context, '/unawaited', 1, { statements })
        if (statements === 'concurrent-always') for (const token of tokens) tokensExpectedToFail.add(token)
        neighbors.push(...(await submit(context, '/unawaited', 1, { statements: 'awaited' })))
      }
    }
    for (let n = 0; n < 2; n++) (await context.createProcess('worker')).start()
    const checkAfterDrain = async () => {
      const [{ outside, written, spent }] = await context.query(
        `select
          (select count(*)::integer from unawaited_write where not exists (
            select from effect
            where effect.job_id = unawaited_write.job_id and effect.xmin::text = unawaited_write.xmin::text
          )) as outside,
          (select count(*)::integer from unawaited_write) as written,
          (
            select count(*)::integer from accepted.attempt join domain using (job_id) where token = any($1)
          ) as spent`,
        [neighbors],
      )
      return [
        ...(written > 0 ? [] : ['No unawaited write committed, so nothing was tested']),
        ...(outside > 0 ? [`${outside} writes committed outside the transaction of their effect`] : []),
        ...(spent > 0 ? [`${spent} attempts of neighboring jobs were spent`] : []),
      ]
    }
    return { faultCount: jobsPerPattern * unawaitedPatterns.length, checkAfterDrain }
  },
}
