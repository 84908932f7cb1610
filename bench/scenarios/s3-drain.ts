import { drainMetrics, drainPeer } from '../contenders/drain.ts'
import { acceptedNoop, acceptedPerform, acceptedTuned } from '../contenders/drain-accepted.ts'
import { floor } from '../contenders/drain-pgbench.ts'
import type { DrainLoad } from '../contenders/drain-process.ts'
import { bullmq } from '../contenders/drain-redis.ts'
import { format } from '../core/format.ts'
import { atLeast } from '../core/goal.ts'
import { peerRow } from '../core/peers.ts'
import { interleave, type Scenario, type ScenarioResult, withContenders } from '../core/scenario.ts'
import { medianOf, ratio } from '../core/series.ts'

const tunedBoss = drainPeer({ name: 'pg-boss, tuned', module: 'drain-pg-boss.ts', env: { TUNED: '1' } })
const tunedGraphile = drainPeer({
  name: 'graphile-worker, local queue',
  module: 'drain-graphile-worker.ts',
  env: { TUNED: '1' },
})
const bare = drainPeer({ name: 'by hand, batches of 400', module: 'drain-bare.ts' })
const graphile = drainPeer({ name: 'graphile-worker', module: 'drain-graphile-worker.ts', jobShare: 0.1 })
// By default, pg-boss fetches one job every two seconds, so it gets few jobs and little time.
const boss = drainPeer({ name: 'pg-boss', module: 'drain-pg-boss.ts', jobShare: 0.01, atMostSeconds: 5 })

const contenders = [
  acceptedNoop,
  acceptedTuned,
  acceptedPerform,
  tunedBoss,
  bare,
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
      const goal = (other: string, minimum: number, comparedWith: string, reason: string) =>
        atLeast(series, {
          ...{ contender: acceptedTuned.name, metric: 'perSecond', other, minimum, reason },
          measure: 'jobs/s, tuned',
          comparedWith,
        })
      const figure = (name: string, metric: string) => format(medianOf(series, name, metric))
      const cpu = `A job takes ${figure(acceptedTuned.name, 'postgresCpu')} µs of CPU in Postgres and ${figure(acceptedTuned.name, 'processCpu')} µs in our worker`
      const reason = [
        `pg-boss changes one row per job (${figure(tunedBoss.name, 'walBytes')} bytes of WAL), Accepted three (${figure(acceptedTuned.name, 'walBytes')} bytes).`,
        `pgbench, which does nothing but change the same rows as Accepted, reaches ${format(ratio(series, 'perSecond', floor.name, tunedBoss.name))} × tuned pg-boss.`,
        `${cpu}; with pg-boss ${figure(tunedBoss.name, 'postgresCpu')} µs and ${figure(tunedBoss.name, 'processCpu')} µs.`,
      ].join(' ')
      const floorReason = `${cpu}; with pgbench ${figure(floor.name, 'postgresCpu')} µs in Postgres.`
      const performReason = `With perform, a job takes ${figure(acceptedPerform.name, 'postgresCpu')} µs in Postgres and ${figure(acceptedPerform.name, 'processCpu')} µs in our worker, because it starts, runs and ends one by one.`
      const bareReason = `${cpu}; by hand ${figure(bare.name, 'postgresCpu')} µs and ${figure(bare.name, 'processCpu')} µs.`
      return {
        tables: [
          {
            caption: 'Jobs completed, from the first completion to the last',
            metrics: drainMetrics,
            series,
          },
        ],
        goals: [
          goal(tunedBoss.name, 0.6, 'tuned pg-boss', reason),
          goal(bare.name, 0.85, 'the loop by hand', bareReason),
          goal(floor.name, 0.5, 'pgbench with the same rows', floorReason),
          atLeast(series, {
            ...{ contender: acceptedPerform.name, metric: 'perSecond', other: acceptedTuned.name, minimum: 0.4 },
            ...{ measure: 'jobs/s with perform', comparedWith: 'Accepted, tuned', reason: performReason },
          }),
        ],
        peers: [
          peerRow(series, 'perSecond', {
            measure: 'jobs/s without effects, tuned',
            better: 'more',
            contenders: {
              Accepted: acceptedTuned.name,
              'pg-boss': tunedBoss.name,
              'graphile-worker': tunedGraphile.name,
              BullMQ: bullmq.name,
              'by hand': bare.name,
            },
          }),
          peerRow(series, 'perSecond', {
            measure: 'jobs/s, with the defaults',
            better: 'more',
            contenders: { Accepted: acceptedNoop.name, 'pg-boss': boss.name, 'graphile-worker': graphile.name },
          }),
          peerRow(series, 'perSecond', {
            measure: 'jobs/s, one call of the handler per job, outside of transactions',
            better: 'more',
            contenders: { Accepted: acceptedPerform.name, 'graphile-worker': tunedGraphile.name, BullMQ: bullmq.name },
          }),
        ],
        notes: [
          'Accepted, the loop by hand and pgbench complete a job, store its key in the dedup table and update its status row in one transaction. The others store neither keys nor statuses.',
          'Accepted, pg-boss and graphile-worker run twice: with their defaults, and tuned for throughput. Accepted and pg-boss are tuned with batches of 400, graphile-worker with its local queue.',
          'The loop by hand claims and settles on two connections. It has no retries, heartbeats, fairness, triggers or partitions.',
          '"Accepted, perform" calls a handler for each job, outside any transaction, and runs a hundred handlers at once. graphile-worker and BullMQ also call a handler for each job; BullMQ runs a hundred at once. The other two variants of Accepted call a handler for each batch, in the transaction that completes the batch.',
          'With its defaults pg-boss fetches one job every two seconds, so the bench stops it before all jobs are completed. BullMQ and pg-boss keep completed jobs; graphile-worker deletes them.',
          'Accepted and pg-boss store when a job completed, BullMQ sends an event, and pgbench reports its own rate. graphile-worker keeps no completed jobs, so it is timed from its first job until its table is empty.',
        ],
      }
    }),
}
