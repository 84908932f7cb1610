import { type PostLoad, postToEvent, postToEventByHand } from '../contenders/post-to-event.ts'
import { atMost } from '../core/goal.ts'
import {
  format,
  interleave,
  type Metric,
  type Outcome,
  type Scenario,
  warmUp,
  withContenders,
} from '../core/scenario.ts'
import { medianOf } from '../core/stats.ts'

const p50: Metric = { name: 'p50', unit: 'ms' }
const p99: Metric = { name: 'p99', unit: 'ms' }
const metrics: Metric[] = [p50, p99, { name: 'max', unit: 'ms' }, { name: 'accepted', unit: 'ms' }]
const perSecond = 20

export const postToTerminalEvent: Scenario = {
  name: 'S6',
  title: 'From a POST to the event that tells the end of its job',
  run: (bench) =>
    withContenders<PostLoad, Outcome>(bench, [postToEvent, postToEventByHand], async (opened) => {
      const load = { perSecond, seconds: bench.quick ? 1.5 : 30 }
      const series = await interleave(bench, opened, load, warmUp)
      const caption = `From when a POST should have been sent until its client has the event with the end, ${perSecond} a second, open loop`
      const contender = postToEvent.name
      const least = (metric: string) => format(medianOf(series, postToEventByHand.name, metric))
      const why = `accept, hint, claim, settle, hint and the read of what has changed are eleven round trips, three of them commits: by hand, with nothing else, such take ${least('p50')} ms (p99 ${least('p99')})`
      return {
        tables: [{ caption, metrics, series }],
        goals: [
          atMost(series, { contender, metric: p50, most: 10, text: 'p50 ≤ 10 ms', why }),
          atMost(series, { contender, metric: p99, most: 30, text: 'p99 ≤ 30 ms', why }),
        ],
        notes: [
          '`accepted` is the median time to the 202. The client follows all its jobs on one stream, `GET /events`. By hand are as many round trips and commits, one after another, in an API of `node:http` and a worker: nothing is validated, queued or checked, and a job has no priority, retry or time.',
        ],
      }
    }),
}
