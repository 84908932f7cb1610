import { until } from '../../support/until.ts'
import type { Span } from '../app/handlers.ts'
import { grouped } from '../app/operations.ts'
import type { Place } from '../processes.ts'
import type { Row } from '../stage.ts'
import { submit } from './processes.ts'
import { killAtWork, readSpans } from './spans.ts'

const names = ['a', 'b', 'c']
const limit = grouped.groupConcurrency as number

export const groups: Row = {
  name: 'groups',
  waits: true,
  summary:
    'SIGKILL of workers that hold jobs of groups: never more of a group at work than groupConcurrency, effects once',
  workers: 3,
  async story(stage) {
    const deaths = new Map<number, number>()
    const most = async () => {
      const spans = await readSpans(stage)
      return names.map((name) =>
        countMost(
          spans.filter(({ group }) => group === name),
          deaths,
        ),
      )
    }
    const kill = async () => {
      // Until then each group has room.
      await until(async () => (await most()).includes(limit))
      for (const worker of stage.workers.slice(0, stage.short ? 1 : 2)) {
        const { pid, at } = await killAtWork(stage, worker as Place)
        deaths.set(pid, at)
      }
    }
    const jobs = stage.short ? 15 : 50
    await Promise.all([kill(), ...names.map((group) => submit(stage, '/grouped', jobs, { group, takes: 400 }))])
    const after = async () => {
      const counts = await most()
      return names.flatMap((name, index) => {
        const count = counts[index] as number
        return count > limit ? [`${count} jobs of group ${name} were at work at once, of ${limit} that may be`] : []
      })
    }
    return { faults: deaths.size, after }
  },
}

/** How many were at work at the same time, at most. What a process had begun when it was killed ended with it. */
function countMost(spans: readonly Span[], deaths: ReadonlyMap<number, number>): number {
  const atWork = new Map<string, number>()
  let most = 0
  for (const { pid, id, what, at } of spans) {
    for (const [other, itsPid] of atWork)
      if ((deaths.get(itsPid) ?? Number.POSITIVE_INFINITY) < at) atWork.delete(other)
    const attempt = `${id} in ${pid}`
    if (what === 'begin') atWork.set(attempt, pid)
    else atWork.delete(attempt)
    most = Math.max(most, atWork.size)
  }
  return most
}
