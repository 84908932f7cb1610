import { drainMetrics, drainPeer } from '../contenders/drain.ts'
import { acceptedNoop, acceptedPerform, acceptedTuned } from '../contenders/drain-accepted.ts'
import { floor } from '../contenders/drain-pgbench.ts'
import type { DrainLoad } from '../contenders/drain-process.ts'
import { bullmq } from '../contenders/drain-redis.ts'
import { format } from '../core/format.ts'
import { atLeast } from '../core/goal.ts'
import { interleave, type Scenario, type ScenarioResult, withContenders } from '../core/scenario.ts'
import { medianOf, ratio } from '../core/series.ts'

const tunedBoss = drainPeer({ name: 'pg-boss, tuned', module: 'drain-pg-boss.ts', env: { TUNED: '1' } })
const tunedGraphile = drainPeer({
  name: 'graphile-worker, local queue',
  module: 'drain-graphile-worker.ts',
  env: { TUNED: '1' },
})
const graphile = drainPeer({ name: 'graphile-worker', module: 'drain-graphile-worker.ts', share: 0.1 })
// By default pg-boss fetches one job every two seconds.
const boss = drainPeer({ name: 'pg-boss', module: 'drain-pg-boss.ts', share: 0.01, atMostSeconds: 5 })

const contenders = [
  acceptedNoop,
  acceptedTuned,
  acceptedPerform,
  tunedBoss,
  floor,
  tunedGraphile,
  graphile,
  bullmq,
  boss,
]

export const drain: Scenario = {
  name: 'S3',
  title: 'Drain of no-op jobs',
  run: (bench) =>
    withContenders<DrainLoad, ScenarioResult>(bench, contenders, async (opened) => {
      const load = bench.quick ? { jobs: 2_000, atMostSeconds: 2 } : { jobs: 50_000, atMostSeconds: 60 }
      const series = await interleave(bench, opened, drainMetrics, load, { ...load, jobs: load.jobs / 5 })
      const goal = (other: string, minimum: number, measure: string, reason: string) =>
        atLeast(series, { contender: acceptedTuned.name, metric: 'perSecond', other, minimum, measure, reason })
      const figure = (name: string, metric: string) => format(medianOf(series, name, metric))
      const cpu = `A job takes ${figure(acceptedTuned.name, 'postgresCpu')} µs of CPU in Postgres and ${figure(acceptedTuned.name, 'processCpu')} µs in our worker`
      const reason = [
        `pg-boss changes one row per job (${figure(tunedBoss.name, 'walBytes')} bytes of WAL), Accepted three (${figure(acceptedTuned.name, 'walBytes')} bytes).`,
        `pgbench, which does nothing but change the same rows as Accepted, reaches ${format(ratio(series, 'perSecond', floor.name, tunedBoss.name))} × tuned pg-boss.`,
        `${cpu}; with pg-boss ${figure(tunedBoss.name, 'postgresCpu')} µs and ${figure(tunedBoss.name, 'processCpu')} µs.`,
      ].join(' ')
      const floorReason = `${cpu}; with pgbench ${figure(floor.name, 'postgresCpu')} µs in Postgres.`
      return {
        tables: [
          {
            caption: 'Jobs drained, from the first completion to the last',
            metrics: drainMetrics,
            series,
          },
        ],
        goals: [
          goal(tunedBoss.name, 1, 'jobs/s, tuned ÷ tuned pg-boss', reason),
          goal(floor.name, 0.5, 'jobs/s, tuned ÷ pgbench with the same rows', floorReason),
        ],
        notes: [
          'Accepted and pgbench complete each job in one transaction with its key in the dedup table and its status row. The others keep neither keys nor status.',
          'Accepted, pg-boss and graphile-worker run with their defaults, and tuned for throughput. Tuned means batches of 400 for Accepted and pg-boss.',
          'In "Accepted, perform" a handler runs for each job, outside any transaction, a hundred at once. graphile-worker and BullMQ also call a handler per job, BullMQ a hundred at once. In the other two variants of Accepted a handler runs once per batch, in the transaction that completes it.',
          'With its defaults pg-boss fetches one job every two seconds. It is stopped before it has drained them all. BullMQ and pg-boss keep completed jobs; graphile-worker deletes them.',
          'The times of Accepted and pg-boss come from their rows, those of BullMQ from its events, and pgbench reports its own rate. graphile-worker leaves no rows: it is timed from its first job until its table is empty.',
        ],
      }
    }),
}
