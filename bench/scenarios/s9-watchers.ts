import { bare, principal, singleJobs, type WatchLoad, watched } from '../contenders/watched.ts'
import { format } from '../core/format.ts'
import { atMost } from '../core/goal.ts'
import { startModule } from '../core/process.ts'
import {
  type Goal,
  interleave,
  type Metric,
  type Scenario,
  type ScenarioResult,
  withContenders,
} from '../core/scenario.ts'
import { medianOf, type Series } from '../core/series.ts'

const metrics: Metric[] = [
  { name: 'all', label: 'event on all streams (ms)' },
  { name: 'half', label: 'event on half of them (ms)' },
  { name: 'memory', label: 'memory without garbage (kB/stream)' },
  { name: 'resident', label: 'memory (kB/stream)' },
  { name: 'pool', label: 'pool connections' },
  { name: 'others', label: 'other connections' },
  { name: 'opened', label: 'streams opened/s' },
]

export const watchers: Scenario = {
  name: 'S9',
  title: 'Many event streams on one API process',
  run: (bench) =>
    withContenders<WatchLoad, ScenarioResult>(
      bench,
      [watched(principal), watched(singleJobs), bare],
      async (opened) => {
        const streams = bench.quick ? 100 : 10_000
        const client = startModule('bench/load/watchers.ts', bench.directory, {})
        try {
          const series = await interleave(bench, opened, metrics, { watchers: client, streams })
          const caption = `Time from the end of a job until ${streams.toLocaleString('en-US')} streams of server-sent events have its event`
          return {
            tables: [{ caption, metrics, series }],
            goals: [
              ...goalsOf(series, principal.name, 'all jobs'),
              ...goalsOf(series, singleJobs.name, 'one job per stream'),
            ],
            notes: [
              'The times count from the `endedAt` of a job. If each stream follows one job, all of these jobs end. Memory is how much the resident set of the process has grown when all streams are open; "without garbage" is the growth after a garbage collection. Other connections are connections to Postgres outside the pool.',
            ],
          }
        } finally {
          await client.stop()
        }
      },
    ),
}

function goalsOf(series: readonly Series[], contender: string, variant: string): Goal[] {
  const bareTakes = (metric: string, unit: string) =>
    `Bare Node.js takes ${format(medianOf(series, bare.name, metric))} ${unit} for the same number of streams.`
  return [
    atMost(series, {
      contender,
      metric: 'memory',
      maximum: 25,
      unit: 'kB',
      measure: 'memory per stream, without garbage',
      variant,
      reason: bareTakes('memory', 'kB per stream'),
    }),
    atMost(series, {
      contender,
      metric: 'others',
      maximum: 1,
      unit: 'connection',
      measure: 'Postgres connections outside the pool',
      variant,
      reason: 'One connection listens for changes.',
    }),
    atMost(series, {
      contender,
      metric: 'all',
      maximum: 500,
      unit: 'ms',
      measure: 'event on all streams',
      variant,
      reason: bareTakes('all', 'ms'),
    }),
  ]
}
