import { drainMetrics, drainPeer } from '../contenders/drain.ts'
import {
  acceptedPerform as performing,
  acceptedTuned as tuned,
  acceptedNoop as untuned,
} from '../contenders/drain-accepted.ts'
import { floor } from '../contenders/drain-pgbench.ts'
import type { DrainLoad } from '../contenders/drain-process.ts'
import { bullmq } from '../contenders/drain-redis.ts'
import { atLeast } from '../core/goal.ts'
import { format, interleave, type Outcome, type Scenario, withContenders } from '../core/scenario.ts'
import { medianOf, ratio } from '../core/stats.ts'

const tunedBoss = drainPeer({ name: 'pg-boss, tuned', module: 'drain-pg-boss.ts', env: { TUNED: '1' } })
const tunedGraphile = drainPeer({
  name: 'graphile-worker, local queue',
  module: 'drain-graphile-worker.ts',
  env: { TUNED: '1' },
})
const graphile = drainPeer({ name: 'graphile-worker', module: 'drain-graphile-worker.ts', part: 0.1 })
// One job at each look, every two seconds.
const boss = drainPeer({ name: 'pg-boss', module: 'drain-pg-boss.ts', part: 0.01, stopAfter: 5 })

const contenders = [untuned, tuned, performing, tunedBoss, floor, tunedGraphile, graphile, bullmq, boss]

export const drain: Scenario = {
  name: 'S3',
  title: 'Drain of jobs that do nothing: with us, key, status and end in one transaction',
  run: (bench) =>
    withContenders<DrainLoad, Outcome>(bench, contenders, async (opened) => {
      const load = bench.quick ? { jobs: 2_000, atMostSeconds: 2 } : { jobs: 50_000, atMostSeconds: 60 }
      const series = await interleave(bench, opened, load, { ...load, jobs: load.jobs / 5 })
      const goal = (text: string, than: string, least: number, why: string) =>
        atLeast(series, { contender: tuned.name, metric: 'perSecond', than, least, text, why })
      const most = format(ratio(series, 'perSecond', floor.name, tunedBoss.name))
      const spent = (name: string, metric: string) => format(medianOf(series, name, metric))
      const cpu = `a job takes ${spent(tuned.name, 'postgresCpu')} µs of a processor in Postgres and ${spent(tuned.name, 'processCpu')} in our worker`
      const ofBoss = `${spent(tunedBoss.name, 'postgresCpu')} and ${spent(tunedBoss.name, 'processCpu')} with pg-boss`
      const ofFloor = `${spent(floor.name, 'postgresCpu')} in Postgres alone with pgbench`
      const why = `it writes one row where we write three, ${spent(tunedBoss.name, 'walBytes')} bytes of WAL where we write ${spent(tuned.name, 'walBytes')}: pgbench, which does nothing but write our rows, reaches ${most} ×; ${cpu}, ${ofBoss}`
      return {
        tables: [{ caption: 'Jobs drained, from the first to the last that ended', metrics: drainMetrics, series }],
        goals: [
          goal('tuned: ≥ 1.0 × tuned pg-boss, which keeps neither keys nor status', tunedBoss.name, 1, why),
          goal('tuned: ≥ 0.5 × pgbench with the same rows', floor.name, 0.5, `${cpu}, ${ofFloor}`),
        ],
        notes: [
          'Ours and pgbench insert the key of each job into the dedup table and update its status row; the others do neither. Ours, pg-boss and graphile-worker are measured as they come and tuned for throughput, which is batches of 400 for ours and pg-boss. In `Accepted, perform` a handler is called for each job, outside of any transaction, as graphile-worker and BullMQ call theirs, a hundred at once as in BullMQ; in our other two one is called for each batch, in the transaction that ends it. pg-boss as it comes takes one job every two seconds, and is stopped before it has drained them. BullMQ keeps the jobs that have ended, as pg-boss does; graphile-worker deletes them. Ours and pg-boss are timed by what their rows say of the end, graphile-worker, which leaves none, from its first job until its table is empty, BullMQ by its events, pgbench by itself.',
        ],
      }
    }),
}
