import { drainMetrics, drainPeer } from '../contenders/drain.ts'
import { acceptedTuned, acceptedWrite } from '../contenders/drain-accepted.ts'
import type { DrainLoad } from '../contenders/drain-process.ts'
import { atLeast } from '../core/goal.ts'
import { format, interleave, type Outcome, type Scenario, withContenders } from '../core/scenario.ts'
import { medianOf } from '../core/stats.ts'

const boss = drainPeer({
  name: 'pg-boss, tuned, a row each',
  module: 'drain-pg-boss.ts',
  env: { TUNED: '1', ROWS: '1' },
})

export const drainRows: Scenario = {
  name: 'S4',
  title: 'Drain of jobs that each write a domain row in the transaction that ends them',
  run: (bench) =>
    withContenders<DrainLoad, Outcome>(bench, [acceptedWrite, acceptedTuned, boss], async (opened) => {
      const load = bench.quick ? { jobs: 2_000, atMostSeconds: 2 } : { jobs: 50_000, atMostSeconds: 60 }
      const series = await interleave(bench, opened, load, { ...load, jobs: load.jobs / 5 })
      const [contender, than] = [acceptedWrite.name, acceptedTuned.name]
      const spent = (name: string) =>
        `${format(medianOf(series, name, 'postgresCpu'))} µs of a processor in Postgres, ${format(medianOf(series, name, 'processCpu'))} in the worker and ${format(medianOf(series, name, 'walBytes'))} bytes of WAL`
      const why = `with the row a job takes ${spent(contender)}, without it ${spent(than)}`
      return {
        tables: [{ caption: 'Jobs drained, with a domain row each', metrics: drainMetrics, series }],
        goals: [atLeast(series, { contender, metric: 'perSecond', than, least: 0.5, text: '≥ 0.5 × S3, tuned', why })],
        notes: [
          'All by batches of 400. pg-boss writes its rows in its `transactional` mode, without keys and without status.',
        ],
      }
    }),
}
