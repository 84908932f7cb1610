import { type PickupLoad, pickupPeer } from '../contenders/pickup.ts'
import { performing, settling } from '../contenders/pickup-accepted.ts'
import {
  format,
  type Goal,
  interleave,
  type Outcome,
  type Scenario,
  type Series,
  withContenders,
} from '../core/scenario.ts'
import { median, ratio, samplesOf } from '../core/stats.ts'

const graphile = pickupPeer('graphile-worker', 'pickup-graphile-worker.ts')
const boss = pickupPeer('pg-boss, notify', 'pickup-pg-boss.ts')

const metrics = ['p50', 'p99', 'max'].map((name) => ({ name, unit: 'ms' }))

export const pickup: Scenario = {
  name: 'S5',
  title: 'Pickup: from the commit of the enqueue to the begin of the handler, at 100 jobs a second',
  run: (bench) =>
    withContenders<PickupLoad, Outcome>(bench, [settling, performing, graphile, boss], async (opened) => {
      // The first seconds belong to the compiler.
      for (const { opened: one } of opened) await one.measure({ perSecond: 100, seconds: bench.quick ? 0.2 : 3 })
      const series = await interleave(bench, opened, { perSecond: 100, seconds: bench.quick ? 1 : 20 })
      return {
        tables: [{ caption: 'Latency of pickup at 100 jobs a second, open loop', metrics, series }],
        goals: [settling, performing].flatMap(({ name }) => goalsOf(series, name)),
        notes: [
          'From when the process that enqueues has been told of the COMMIT to when the other calls the handler; both read the same clock. What is told to a handler before the committer hears of the COMMIT counts as negative. pg-boss without `notify` looks every two seconds, and is left out.',
        ],
      }
    }),
}

function goalsOf(series: readonly Series[], name: string): Goal[] {
  const goals: Goal[] = []
  for (const [metric, most] of [
    ['p50', 3],
    ['p99', 10],
  ] as const) {
    const measured = median(samplesOf(series, name, metric))
    goals.push({ goal: `${name}: ${metric} ≤ ${most} ms`, measured: `${format(measured)} ms`, isMet: measured <= most })
    const relative = ratio(series, metric, name, graphile.name)
    goals.push({
      goal: `${name}: ${metric} ≤ 1.0 × graphile-worker`,
      measured: `${format(relative)} ×`,
      isMet: relative <= 1,
    })
  }
  return goals
}
