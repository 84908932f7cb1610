import { type AcceptLoad, asBatch, concurrently, oneByOne } from '../contenders/accept-batch.ts'
import { atLeast } from '../core/goal.ts'
import { interleave, type Metric, type Scenario, type ScenarioResult, withContenders } from '../core/scenario.ts'

const metrics: readonly Metric[] = [
  { name: 'perSecond', label: 'jobs/s' },
  { name: 'walBytes', label: 'WAL bytes/job' },
  { name: 'postgresCpu', label: 'Postgres CPU (µs/job)' },
  { name: 'processCpu', label: 'API CPU (µs/job)' },
]

export const acceptBatch: Scenario = {
  name: 'S15',
  title: 'A batch in one request',
  run: (bench) =>
    withContenders<AcceptLoad, ScenarioResult>(bench, [oneByOne, concurrently, asBatch], async (opened) => {
      const load = { jobs: bench.quick ? 2_000 : 10_000, seconds: bench.quick ? 1 : 5 }
      const series = await interleave(bench, opened, metrics, load, { jobs: load.jobs / 5, seconds: 1 })
      const goal = (other: string, minimum: number) =>
        atLeast(series, {
          ...{ contender: asBatch.name, metric: 'perSecond', other, minimum },
          ...{ measure: 'jobs/s', comparedWith: other, reason: 'Single requests share transactions too.' },
        })
      return {
        tables: [{ caption: `Jobs accepted over HTTP; the batch has ${load.jobs} jobs`, metrics, series }],
        goals: [goal(oneByOne.name, 5), goal(concurrently.name, 2)],
        notes: ['Each request has an idempotency key. The operation inserts a domain row for each job.'],
      }
    }),
}
