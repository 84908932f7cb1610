import { drainMetrics, drainPeer } from '../contenders/drain.ts'
import { acceptedNoop, acceptedWrite } from '../contenders/drain-accepted.ts'
import type { DrainLoad } from '../contenders/drain-process.ts'
import { format, interleave, type Outcome, type Scenario, withContenders } from '../core/scenario.ts'
import { ratio } from '../core/stats.ts'

const boss = drainPeer({
  name: 'pg-boss, tuned, a row each',
  module: 'drain-pg-boss.ts',
  env: { TUNED: '1', ROWS: '1' },
})

export const drainRows: Scenario = {
  name: 'S4',
  title: 'Drain of jobs that each write a domain row in the transaction that ends them',
  run: (bench) =>
    withContenders<DrainLoad, Outcome>(bench, [acceptedWrite, acceptedNoop, boss], async (opened) => {
      const load = bench.quick ? { jobs: 2_000, atMostSeconds: 2 } : { jobs: 50_000, atMostSeconds: 60 }
      // The first jobs belong to the compiler; a quick run, which tells nothing of speed, does without.
      for (const { opened: one } of bench.quick ? [] : opened) await one.measure({ ...load, jobs: load.jobs / 5 })
      const series = await interleave(bench, opened, load)
      const measured = ratio(series, 'perSecond', acceptedWrite.name, acceptedNoop.name)
      return {
        tables: [{ caption: 'Jobs drained, with a domain row each', metrics: drainMetrics, series }],
        goals: [{ goal: '≥ 0.5 × S3', measured: `${format(measured)} ×`, isMet: measured >= 0.5 }],
        notes: ['pg-boss writes its rows in its `transactional` mode, without keys and without status.'],
      }
    }),
}
