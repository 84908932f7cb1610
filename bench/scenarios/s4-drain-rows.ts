import { drainMetrics, drainPeer } from '../contenders/drain.ts'
import { acceptedTuned, acceptedWrite } from '../contenders/drain-accepted.ts'
import type { DrainLoad } from '../contenders/drain-process.ts'
import { format } from '../core/format.ts'
import { atLeast } from '../core/goal.ts'
import { interleave, type Scenario, type ScenarioResult, withContenders } from '../core/scenario.ts'
import { medianOf } from '../core/series.ts'

const boss = drainPeer({
  name: 'pg-boss, tuned, one row per job',
  module: 'drain-pg-boss.ts',
  env: { TUNED: '1', ROWS: '1' },
})

export const drainRows: Scenario = {
  name: 'S4',
  title: 'Drain with domain rows',
  run: (bench) =>
    withContenders<DrainLoad, ScenarioResult>(bench, [acceptedWrite, acceptedTuned, boss], async (opened) => {
      const load = bench.quick ? { jobs: 2_000, atMostSeconds: 2 } : { jobs: 50_000, atMostSeconds: 60 }
      const series = await interleave(bench, opened, drainMetrics, load, { ...load, jobs: load.jobs / 5 })
      const [contender, other] = [acceptedWrite.name, acceptedTuned.name]
      const cost = (name: string) =>
        `${format(medianOf(series, name, 'postgresCpu'))} µs of CPU in Postgres, ${format(medianOf(series, name, 'processCpu'))} µs in the worker and ${format(medianOf(series, name, 'walBytes'))} bytes of WAL`
      const reason = `With the domain row a job takes ${cost(contender)}; without it ${cost(other)}.`
      const [measure, comparedWith] = ['jobs/s, a domain row per job', 'no domain rows']
      return {
        tables: [{ caption: 'Jobs completed, with and without a domain row per job', metrics: drainMetrics, series }],
        goals: [
          atLeast(series, { contender, metric: 'perSecond', other, comparedWith, minimum: 0.5, measure, reason }),
        ],
        notes: [
          'The domain row is inserted in the transaction that completes the job. All contenders use batches of 400. pg-boss inserts the rows in its `transactional` mode; it stores neither keys nor statuses.',
        ],
      }
    }),
}
