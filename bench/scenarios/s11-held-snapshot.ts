import {
  freeAccepted,
  type HoldLoad,
  type HoldTimeline,
  heldAccepted,
  heldPgBoss,
} from '../contenders/held-snapshot.ts'
import { format } from '../core/format.ts'
import { atLeast } from '../core/goal.ts'
import {
  type Goal,
  interleave,
  type Listing,
  type Metric,
  type Scenario,
  type ScenarioResult,
  withContenders,
} from '../core/scenario.ts'
import { medianOf, type Series } from '../core/series.ts'

/** A round takes many minutes. */
const maxRounds = 2
const maxJobsInFlight = 2_000

const metrics: Metric[] = [
  { name: 'during', label: 'jobs/s during' },
  { name: 'after', label: 'jobs/s after' },
  { name: 'before', label: 'jobs/s before' },
  { name: 'dead', label: 'dead rows' },
  { name: 'failed', label: 'jobs not enqueued' },
  { name: 'cpuBefore', label: 'Postgres CPU before (µs/job)' },
  { name: 'cpuDuring', label: 'Postgres CPU during (µs/job)' },
  { name: 'walBefore', label: 'WAL bytes/job before' },
  { name: 'walDuring', label: 'WAL bytes/job during' },
  { name: 'processCpu', label: 'worker + load generator CPU during (µs/job)' },
]

export const heldSnapshot: Scenario = {
  name: 'S11',
  title: 'Long-running transaction',
  run(bench) {
    const rounds = Math.min(bench.rounds, maxRounds)
    const load = bench.quick
      ? { warmUpSeconds: 0.5, windowSeconds: 0.4, holdSeconds: 1, recoverySeconds: 0.4, pointIntervalSeconds: 0.1 }
      : { warmUpSeconds: 10, windowSeconds: 60, holdSeconds: 300, recoverySeconds: 30, pointIntervalSeconds: 5 }
    return withContenders<HoldLoad, ScenarioResult>(bench, [heldAccepted, freeAccepted, heldPgBoss], async (opened) => {
      const timelines = new Map<string, HoldTimeline>()
      const onTimeline = (contender: string, timeline: HoldTimeline) => void timelines.set(contender, timeline)
      const series = await interleave({ ...bench, rounds }, opened, metrics, { ...load, maxJobsInFlight, onTimeline })
      return {
        tables: [
          {
            caption: `Completed jobs, closed loop, ${maxJobsInFlight.toLocaleString('en-US')} jobs in flight, while a transaction holds its snapshot for ${load.holdSeconds} s. "Before" is the ${load.windowSeconds} s before the transaction begins, "during" its last ${load.windowSeconds} s, "after" the ${load.windowSeconds} s that begin ${load.recoverySeconds} s after its end. Rounds: ${rounds}`,
            metrics,
            series,
          },
        ],
        lineCharts: [
          {
            caption: 'Completed jobs over time, in the last round',
            xLabel: 'seconds since the transaction began',
            yLabel: 'jobs/s',
            lines: [...timelines].map(([name, { points }]) => ({ name, points })),
            span: { from: 0, to: load.holdSeconds, text: 'the transaction is open' },
          },
        ],
        listings: [listTables(timelines)],
        goals: [
          goal(series, 'during', 0.8, 'jobs/s during the transaction'),
          goal(series, 'after', 0.9, `jobs/s ${load.recoverySeconds} s after the transaction`),
        ],
        notes: [
          'An open transaction keeps Postgres from removing rows that died after its snapshot. The load generator enqueues a hundred jobs per transaction: for Accepted with `enqueue` and an idempotency key for each job, for pg-boss with `insert`. Dead rows are the estimate of the statistics at the end of the open transaction.',
        ],
      }
    })
  },
}

function goal(series: readonly Series[], metric: string, minimum: number, measure: string): Goal {
  const cost = (contender: string) =>
    `${format(medianOf(series, contender, 'cpuDuring'))} µs of CPU in Postgres and ${format(medianOf(series, contender, 'walDuring'))} bytes of WAL`
  const ofPgBoss = medianOf(series, heldPgBoss.name, metric) / medianOf(series, heldPgBoss.name, 'before')
  const reason = [
    `At the end of the transaction a job takes ${cost(heldAccepted.name)}; without an open transaction ${cost(freeAccepted.name)}.`,
    `${format(medianOf(series, heldAccepted.name, 'dead'))} dead rows could not be removed.`,
    `pg-boss reaches ${format(ofPgBoss)} × its own rate before the transaction.`,
  ].join(' ')
  return atLeast(series, {
    ...{ contender: heldAccepted.name, metric, other: freeAccepted.name, minimum, measure, reason },
    comparedWith: 'no open transaction',
  })
}

const listTables = (timelines: ReadonlyMap<string, HoldTimeline>): Listing => ({
  caption: 'Dead rows and sizes, in the last round',
  head: ['contender', 'time', 'table', 'dead rows', 'table (MB)', 'indexes (MB)'],
  rows: [...timelines].flatMap(([contender, { tables }]) =>
    tables.flatMap(({ when, tables }) =>
      tables
        .filter(({ rows }) => rows > 0)
        .map(({ name, dead, heapBytes, indexBytes }) => [
          contender,
          when,
          name,
          format(dead),
          format(heapBytes / 1e6),
          format(indexBytes / 1e6),
        ]),
    ),
  ),
})
