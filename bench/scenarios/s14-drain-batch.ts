import { drainMetrics } from '../contenders/drain.ts'
import { batchOfJobs, batchPerform, separateJobs, separatePerform } from '../contenders/drain-accepted.ts'
import type { DrainLoad } from '../contenders/drain-process.ts'
import { format } from '../core/format.ts'
import { atLeast } from '../core/goal.ts'
import { interleave, type Scenario, type ScenarioResult, withContenders } from '../core/scenario.ts'
import { medianOf } from '../core/series.ts'

const settling = [separateJobs, batchOfJobs]
const performing = [separatePerform, batchPerform]

export const drainBatch: Scenario = {
  name: 'S14',
  title: 'Drain of a batch',
  run: (bench) =>
    withContenders<DrainLoad, ScenarioResult>(
      bench,
      [...settling, ...(bench.quick ? [] : performing)],
      async (opened) => {
        const load = { jobs: bench.quick ? 2_000 : 10_000, atMostSeconds: bench.quick ? 5 : 60 }
        const series = await interleave(bench, opened, drainMetrics, load, { ...load, jobs: load.jobs / 5 })
        const goal = (contender: string, other: string, measure: string) =>
          atLeast(series, {
            ...{ contender, metric: 'perSecond', other, comparedWith: 'the same jobs without a batch', minimum: 0.85 },
            ...{ measure, reason: `A job takes ${cost(contender)}; without a batch ${cost(other)}.` },
          })
        const cost = (name: string) =>
          `${format(medianOf(series, name, 'postgresCpu'))} µs of CPU in Postgres and ${format(medianOf(series, name, 'processCpu'))} µs in the workers`
        return {
          tables: [{ caption: 'Children completed by four worker processes', metrics: drainMetrics, series }],
          goals: [
            goal(batchOfJobs.name, separateJobs.name, 'jobs/s'),
            ...(bench.quick ? [] : [goal(batchPerform.name, separatePerform.name, 'jobs/s, perform')]),
          ],
          notes: [
            'All children belong to one batch, which ends in the transaction of its last child. The progress of the batch is written four times a second.',
          ],
        }
      },
    ),
}
