import { bare, principal, singleJobs, type WatchLoad, watched } from '../contenders/watched.ts'
import { atMost } from '../core/goal.ts'
import { startModule } from '../core/process.ts'
import {
  format,
  type Goal,
  interleave,
  type Metric,
  type Outcome,
  type Scenario,
  type Series,
  withContenders,
} from '../core/scenario.ts'
import { medianOf } from '../core/stats.ts'

const all: Metric = { name: 'all', unit: 'ms' }
const memory: Metric = { name: 'memory', unit: 'kB a stream' }
const others: Metric = { name: 'others', unit: 'connections' }
const metrics: Metric[] = [
  all,
  { name: 'half', unit: 'ms' },
  memory,
  { name: 'resident', unit: 'kB a stream' },
  { name: 'pool', unit: 'connections' },
  others,
  { name: 'opened', unit: '1/s' },
]

export const watchers: Scenario = {
  name: 'S9',
  title: 'Watchers: streams of server-sent events on one API process',
  run: (bench) =>
    withContenders<WatchLoad, Outcome>(bench, [watched(principal), watched(singleJobs), bare], async (opened) => {
      const streams = bench.quick ? 200 : 10_000
      const client = startModule('bench/load/watchers.ts', bench.directory, {})
      try {
        const series = await interleave(bench, opened, { watchers: client, streams })
        const caption = `${streams.toLocaleString('en-US')} streams, from the end of a job until they have the event`
        return {
          tables: [{ caption, metrics, series }],
          goals: [principal.name, singleJobs.name].flatMap((contender) => goalsOf(series, contender)),
          notes: [
            '`all` and `half` count from the `endedAt` of a job until all streams, or half of them, have the event with it; where each stream follows one job, all of those jobs end. `resident` is what the resident set of the process has grown by for each stream when all are open, and `memory` the same without the garbage that opening them has left. `others` are connections to Postgres beyond those of the pool.',
          ],
        }
      } finally {
        await client.stop()
      }
    }),
}

function goalsOf(series: readonly Series[], contender: string): Goal[] {
  const alone = ({ name, unit }: Metric) =>
    `a process of Node.js that does nothing else takes ${format(medianOf(series, bare.name, name))} ${unit} for as many`
  const goal = (metric: Metric, most: number, text: string, why: string) =>
    atMost(series, { contender, metric, most, text: `${text} (${contender})`, why })
  return [
    goal(memory, 25, '≤ 25 kB a stream, without garbage', alone(memory)),
    goal(others, 1, 'one connection to Postgres beyond the pool’s', 'one listens for changes'),
    goal(all, 500, 'on all streams within 0.5 s', alone(all)),
  ]
}
