import { type PickupLoad, pickupPeer } from '../contenders/pickup.ts'
import { performing, settling } from '../contenders/pickup-accepted.ts'
import {
  format,
  type Goal,
  interleave,
  type Outcome,
  type Scenario,
  type Series,
  warmUp,
  withContenders,
} from '../core/scenario.ts'
import { medianOf, ratio } from '../core/stats.ts'

const graphile = pickupPeer('graphile-worker', 'pickup-graphile-worker.ts')
const boss = pickupPeer('pg-boss, notify', 'pickup-pg-boss.ts')
const byHand = {
  settle: pickupPeer('settle by hand', 'pickup-bare.ts'),
  perform: pickupPeer('perform by hand', 'pickup-bare.ts', { PERFORM: '1' }),
}

const contenders = [settling, performing, byHand.settle, byHand.perform, graphile, boss]

const metrics = ['p50', 'p99', 'max', 'wholeP50', 'wholeP99'].map((name) => ({ name, unit: 'ms' }))

export const pickup: Scenario = {
  name: 'S5',
  title: 'Pickup: from the commit of the enqueue to the begin of the handler, at 100 jobs a second',
  run: (bench) =>
    withContenders<PickupLoad, Outcome>(bench, contenders, async (opened) => {
      const load = { perSecond: 100, seconds: bench.quick ? 1 : 20 }
      const series = await interleave(bench, opened, load, warmUp)
      return {
        tables: [{ caption: 'Latency of pickup at 100 jobs a second, open loop', metrics, series }],
        goals: [
          ...goalsOf(series, settling.name, whyNot(series, byHand.settle.name, 'which commits, and the lock')),
          ...goalsOf(series, performing.name, whyNot(series, byHand.perform.name, 'and the status, which both commit')),
        ],
        notes: [
          'From when the process that enqueues has been told of the COMMIT to when the other calls the handler; both read the same clock. What is told to a handler before the committer hears of the COMMIT counts as negative. `wholeP50` and `wholeP99` count from before the transaction of the enqueue is begun. By hand are a hint after the commit, in a transaction of its own, a claim that commits, and, for settle, the lock of what was claimed, for perform its status, which commits, and nothing else: the table has a number in each row, no priority, retry or time, and nothing is checked. pg-boss without `notify` looks every two seconds, and is left out.',
        ],
      }
    }),
}

const whyNot = (series: readonly Series[], least: string, which: string) => {
  const figure = (contender: string, metric: string) => format(medianOf(series, contender, metric))
  return `the hint, the claim, ${which}, are three round trips: by hand, with nothing else, such take ${figure(least, 'p50')} ms (p99 ${figure(least, 'p99')}), and ${figure(graphile.name, 'p50')} (${figure(graphile.name, 'p99')}) all of graphile-worker’s, which sends the hint within the commit and begins with the claim`
}

function goalsOf(series: readonly Series[], name: string, why: string): Goal[] {
  const goals: Goal[] = []
  for (const [metric, most] of [
    ['p50', 3],
    ['p99', 10],
  ] as const) {
    const measured = medianOf(series, name, metric)
    goals.push({
      goal: `${name}: ${metric} ≤ ${most} ms`,
      measured: `${format(measured)} ms`,
      isMet: measured <= most,
      why,
    })
    const theirs = medianOf(series, graphile.name, metric)
    goals.push({
      goal: `${name}: ${metric} ≤ 1.0 × graphile-worker`,
      measured: `${format(ratio(series, metric, name, graphile.name))} × (${format(measured)} ms to ${format(theirs)} ms)`,
      // Whoever begins before the committer hears of the COMMIT makes no ratio.
      isMet: measured <= theirs,
      why,
    })
  }
  return goals
}
