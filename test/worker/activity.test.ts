import { pino } from 'pino'
import t from 'tap'
import { createActivityLog } from '../../worker/activity.ts'

t.test('attempts are summed up until the next report, and a report without attempts is left out', async (t) => {
  const lines: object[] = []
  const log = pino({ base: null, timestamp: false }, { write: (line) => void lines.push(JSON.parse(line)) })
  const activity = createActivityLog(log)
  activity.count('a', { succeeded: 2, failed: 0 })
  activity.count('a', { succeeded: 1 })
  activity.count('b', { retried: 1 })
  activity.close()
  t.same(lines, [
    {
      ...{ level: 30, msg: 'Attempts ended since the last report', succeeded: 3, retried: 1 },
      byOperation: { a: { succeeded: 3 }, b: { retried: 1 } },
    },
  ])
  activity.close()
  t.equal(lines.length, 1)
})
