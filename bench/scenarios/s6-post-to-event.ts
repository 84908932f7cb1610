import { type PostLoad, postToEvent, postToEventByHand } from '../contenders/post-to-event.ts'
import { format } from '../core/format.ts'
import { atMost } from '../core/goal.ts'
import { peerRow } from '../core/peers.ts'
import {
  interleave,
  type Metric,
  type Scenario,
  type ScenarioResult,
  warmUp,
  withContenders,
} from '../core/scenario.ts'
import { medianOf } from '../core/series.ts'

const metrics: Metric[] = [
  { name: 'p50', label: 'p50 (ms)' },
  { name: 'p99', label: 'p99 (ms)' },
  { name: 'max', label: 'max (ms)' },
  { name: 'accepted', label: 'until the 202, p50 (ms)' },
]
const perSecond = 20

export const postToTerminalEvent: Scenario = {
  name: 'S6',
  title: 'POST to final event',
  run: (bench) =>
    withContenders<PostLoad, ScenarioResult>(bench, [postToEvent, postToEventByHand], async (opened) => {
      const load = { perSecond, seconds: bench.quick ? 1.5 : 30 }
      const series = await interleave(bench, opened, metrics, load, warmUp)
      const contender = postToEvent.name
      const bare = (metric: string) => format(medianOf(series, postToEventByHand.name, metric))
      const reason = `Accept, notification, claim, settle, notification and the read of the change are ten round trips, three of them commits. The hand-written contender, which does nothing else, takes ${bare('p50')} ms (p99 ${bare('p99')} ms).`
      const goal = (metric: string, maximum: number) =>
        atMost(series, {
          contender,
          metric,
          maximum,
          unit: 'ms',
          measure: `${metric} at ${perSecond} requests/s`,
          reason,
        })
      return {
        tables: [
          {
            caption: `Latency from when a POST was due until the client has the final event of its job, open loop at ${perSecond} requests/s`,
            metrics,
            series,
          },
        ],
        goals: [goal('p50', 6), goal('p99', 30)],
        peers: [
          peerRow(series, 'p50', {
            measure: `ms from a POST to the event of its end, p50, ${perSecond} requests/s`,
            better: 'less',
            contenders: { Accepted: contender, 'by hand': postToEventByHand.name },
          }),
        ],
        notes: [
          'The client follows all its jobs on one stream, `GET /events`. The hand-written contender makes the same round trips and commits, one after another, in an API with `node:http` and a worker. It validates, queues and checks nothing, and its jobs have no priority, retries or times.',
        ],
      }
    }),
}
