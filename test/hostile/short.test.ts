import t from 'tap'
import { runHostile } from './hostile.ts'
import { phases } from './phases/index.ts'
import { formatResult } from './report.ts'
import { startTarget } from './target.ts'

/** A run of less than a minute. `npm run test:hostile` runs the whole, and also limits how long a bystander waits. */
const size = { requests: 150, scale: 0.01 }
/** Without a warm-up, the memory also grows by what is loaded and compiled. */
const maxMemoryGrowth = 1
const seed = Math.floor(Math.random() * 2 ** 31)

const target = await startTarget()
t.teardown(() => target.close({ keepLogs: !t.passing() }))

t.test(`hostile traffic with the seed ${seed} breaks nothing and disturbs no other client`, async (t) => {
  const results = await runHostile(target, { phases, seed, ...size, maxMemoryGrowth })
  t.equal(results.length, phases.length, 'the API runs until the end')
  for (const result of results) {
    t.comment(formatResult(result, result.findings))
    t.same(result.findings, [], result.phase)
    t.ok(result.latencies.length > 0, 'the bystander was answered')
    t.ok(result.sent > 0 || result.phase === 'nothing', 'requests were sent')
  }
})
