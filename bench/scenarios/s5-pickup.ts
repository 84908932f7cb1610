import { type PickupLoad, pickupPeer } from '../contenders/pickup.ts'
import { performing, settling } from '../contenders/pickup-accepted.ts'
import { format } from '../core/format.ts'
import { atMost } from '../core/goal.ts'
import { peerRow } from '../core/peers.ts'
import {
  type Goal,
  interleave,
  type Metric,
  type Scenario,
  type ScenarioResult,
  warmUp,
  withContenders,
} from '../core/scenario.ts'
import { medianOf, ratio, type Series } from '../core/series.ts'

const graphile = pickupPeer('graphile-worker', 'pickup-graphile-worker.ts')
const boss = pickupPeer('pg-boss, notify', 'pickup-pg-boss.ts')
const bareSettle = pickupPeer('hand-written, settle', 'pickup-bare.ts')
const barePerform = pickupPeer('hand-written, perform', 'pickup-bare.ts', { PERFORM: '1' })

const contenders = [settling, performing, bareSettle, barePerform, graphile, boss]

const metrics: Metric[] = [
  { name: 'p50', label: 'p50 (ms)' },
  { name: 'p99', label: 'p99 (ms)' },
  { name: 'max', label: 'max (ms)' },
  { name: 'wholeP50', label: 'with the enqueue, p50 (ms)' },
  { name: 'wholeP99', label: 'with the enqueue, p99 (ms)' },
]

const perSecond = 100
/** The goal for both percentiles, compared with graphile-worker. */
const maxRatio = 2

export const pickup: Scenario = {
  name: 'S5',
  title: 'Pickup latency',
  run: (bench) =>
    withContenders<PickupLoad, ScenarioResult>(bench, contenders, async (opened) => {
      const load = { perSecond, seconds: bench.quick ? 1 : 20 }
      const series = await interleave(bench, opened, metrics, load, warmUp)
      return {
        tables: [
          {
            caption: `Latency from the commit that enqueues a job until its handler starts, open loop at ${perSecond} jobs/s`,
            metrics,
            series,
          },
        ],
        goals: [
          ...goalsOf(series, settling.name, 'settle', {
            bare: bareSettle.name,
            steps:
              'Three round trips lie between the commit and the handler: the notification, the claim, which commits, and the lock of the job rows.',
          }),
          ...goalsOf(series, performing.name, 'perform', {
            bare: barePerform.name,
            steps:
              'Two round trips lie between the commit and the handler: the notification, and the claim, which also sets the status and commits.',
          }),
        ],
        peers: [
          { variant: 'settle', ours: settling, byHand: bareSettle },
          { variant: 'perform', ours: performing, byHand: barePerform },
        ].map(({ variant, ours, byHand }) =>
          peerRow(series, 'p50', {
            measure: `ms from the commit of a job to its handler, p50, \`${variant}\``,
            better: 'less',
            contenders: {
              Accepted: ours.name,
              'pg-boss': boss.name,
              'graphile-worker': graphile.name,
              'by hand': byHand.name,
            },
          }),
        ),
        notes: [
          'The latency begins when the enqueueing process receives the reply to COMMIT, and ends when the worker calls the handler. Both processes read the same clock. The latency is negative if the handler starts before the reply arrives. "With the enqueue" includes the whole transaction that enqueues the job.',
          'The hand-written contenders do no more than this: they send a notification after the commit, in a transaction of its own, and claim the job in another one. Then they lock the claimed rows (settle), or update the status and commit (perform). A row holds only a number, without priority, retries or times, and nothing is validated.',
          'pg-boss without `notify` polls every two seconds and is left out.',
        ],
      }
    }),
}

function goalsOf(
  series: readonly Series[],
  contender: string,
  variant: string,
  { bare, steps }: { bare: string; steps: string },
): Goal[] {
  const figure = (name: string, metric: string) => format(medianOf(series, name, metric))
  const latencies = (name: string) => `${figure(name, 'p50')} ms (p99 ${figure(name, 'p99')} ms)`
  const reason = [
    steps,
    `The hand-written contender, which does nothing else, takes ${latencies(bare)}.`,
    `graphile-worker takes only ${latencies(graphile.name)}, because it notifies in the transaction that enqueues the job, and calls the handler right after the claim.`,
  ].join(' ')
  return (['p50', 'p99'] as const).flatMap((metric) => {
    const maximum = { p50: 3, p99: 10 }[metric]
    const measure = `${metric} at ${perSecond} jobs/s`
    return [
      atMost(series, { contender, metric, maximum, unit: 'ms', measure, variant, reason }),
      {
        measure,
        comparedWith: graphile.name,
        variant,
        bound: `≤ ${maxRatio} ×`,
        measured: `${format(ratio(series, metric, contender, graphile.name))} ×`,
        // A latency may be negative. The ratio would then be wrong, so the medians are compared.
        isMet: medianOf(series, contender, metric) <= maxRatio * medianOf(series, graphile.name, metric),
        reason,
      },
    ]
  })
}
