import { until } from '../../support/until.ts'
import type { Span } from '../app/handlers.ts'
import { grouped } from '../app/operations.ts'
import { killBusyWorker, readSpans } from '../executions.ts'
import type { Row } from '../row.ts'
import { submit } from '../submit.ts'
import type { SupervisedProcess } from '../supervised-process.ts'

const groups = ['a', 'b', 'c']
const maxConcurrentJobs = grouped.groupConcurrency as number

export const groupConcurrency: Row = {
  name: 'group-concurrency',
  summary:
    'Workers are killed while they run jobs of groups. No group exceeds its groupConcurrency, and every effect happens once.',
  isMostlyWaiting: true,
  workerCount: 3,
  async run(context) {
    const killedAtNs = new Map<number, number>()
    const findMaxima = async () => {
      const spans = await readSpans(context)
      return groups.map((group) => ({
        group,
        max: maxConcurrency(
          spans.filter((span) => span.group === group),
          killedAtNs,
        ),
      }))
    }
    const kill = async () => {
      // A kill before any group has reached its limit would test nothing.
      await until(async () => (await findMaxima()).some(({ max }) => max === maxConcurrentJobs))
      for (const worker of context.workers.slice(0, context.isShort ? 1 : 2)) {
        const { pid, atNs } = await killBusyWorker(context, worker as SupervisedProcess)
        killedAtNs.set(pid, atNs)
      }
    }
    const jobCount = context.isShort ? 15 : 50
    await Promise.all([
      kill(),
      ...groups.map((group) => submit(context, '/grouped', jobCount, { group, durationMs: 400 })),
    ])
    const checkAfterDrain = async () =>
      (await findMaxima())
        .filter(({ max }) => max > maxConcurrentJobs)
        .map(({ group, max }) => `${max} jobs of group ${group} ran at once; the limit is ${maxConcurrentJobs}`)
    return { faultCount: killedAtNs.size, checkAfterDrain }
  },
}

/** Returns the maximum number of jobs that ran at once. The jobs of a killed process end with the kill. */
function maxConcurrency(spans: readonly Span[], killedAtNs: ReadonlyMap<number, number>): number {
  const pidByAttempt = new Map<string, number>()
  let max = 0
  for (const { pid, id, event, atNs } of spans) {
    for (const [attempt, itsPid] of pidByAttempt)
      if ((killedAtNs.get(itsPid) ?? Number.POSITIVE_INFINITY) < atNs) pidByAttempt.delete(attempt)
    const attempt = `${id} in ${pid}`
    if (event === 'begin') pidByAttempt.set(attempt, pid)
    else pidByAttempt.delete(attempt)
    max = Math.max(max, pidByAttempt.size)
  }
  return max
}
