import { freeAccepted, type HeldCourse, type HoldLoad, heldAccepted, heldPgBoss } from '../contenders/held-snapshot.ts'
import { atLeast } from '../core/goal.ts'
import {
  format,
  type Goal,
  interleave,
  type Listing,
  type Metric,
  type Outcome,
  type Scenario,
  type Series,
  withContenders,
} from '../core/scenario.ts'
import { medianOf } from '../core/stats.ts'

/** Each takes minutes. */
const mostRounds = 2

const metrics: Metric[] = [
  { name: 'during', unit: '1/s' },
  { name: 'after', unit: '1/s' },
  { name: 'before', unit: '1/s' },
  { name: 'dead', unit: 'rows' },
  { name: 'failed', unit: 'jobs' },
  { name: 'cpuBefore', unit: 'µs of Postgres a job' },
  { name: 'cpuDuring', unit: 'µs of Postgres a job' },
  { name: 'walBefore', unit: 'bytes a job' },
  { name: 'walDuring', unit: 'bytes a job' },
  { name: 'processCpu', unit: 'µs of worker and feeder a job, during' },
]

export const heldSnapshot: Scenario = {
  name: 'S11',
  title: 'A transaction that stays open, and keeps what is dead from being removed',
  run(bench) {
    const rounds = Math.min(bench.rounds, mostRounds)
    const load = bench.quick
      ? { warmUp: 0.5, window: 0.4, hold: 1, recovery: 0.4, every: 0.1 }
      : { warmUp: 10, window: 60, hold: 300, recovery: 30, every: 5 }
    return withContenders<HoldLoad, Outcome>(bench, [heldAccepted, freeAccepted, heldPgBoss], async (opened) => {
      const courses = new Map<string, HeldCourse>()
      const onCourse = (contender: string, course: HeldCourse) => void courses.set(contender, course)
      const series = await interleave({ ...bench, rounds }, opened, { ...load, mostUnderWay: 2_000, onCourse })
      return {
        tables: [
          {
            caption: `Jobs that ended a second, 2,000 under way in a closed loop: in the last ${load.window} s of a transaction that was held for ${load.hold} s, in ${load.window} s from ${load.recovery} s after its end, and in the ${load.window} s before it; and at the same times where nothing was held. ${rounds} rounds`,
            metrics,
            series,
          },
        ],
        courses: [
          {
            caption: 'Jobs that ended a second, in the last round',
            time: { name: 'since the transaction began', unit: 's' },
            metric: { name: 'ended', unit: 'jobs a second' },
            lines: [...courses].map(([name, { points }]) => ({ name, points })),
            span: { from: 0, to: load.hold, text: 'a transaction is held open' },
          },
        ],
        listings: [listDead(courses)],
        goals: [
          goal(series, 'during', 0.8, `drain ≥ 0.8 × while a transaction is held for ${load.hold} s, of that without`),
          goal(series, 'after', 0.9, `has recovered, to ≥ 0.9 × that without, ${load.recovery} s after it`),
        ],
        notes: [
          'Jobs come a hundred in a transaction, ours by `enqueue` and with a key each, those of pg-boss by `insert`. `dead` is how many rows could not be removed when the transaction ended, as the statistics estimate it.',
        ],
      }
    })
  },
}

function goal(series: readonly Series[], metric: string, least: number, text: string): Goal {
  const figure = (metric: string, contender = heldAccepted.name) => format(medianOf(series, contender, metric))
  const ofBoss = medianOf(series, heldPgBoss.name, metric) / medianOf(series, heldPgBoss.name, 'before')
  const why = `a job takes ${figure('cpuDuring')} µs of a processor in Postgres at the end of it, ${figure('cpuDuring', freeAccepted.name)} where nothing is held, and writes ${figure('walDuring')} bytes of WAL, ${figure('walDuring', freeAccepted.name)} where nothing is held; ${figure('dead')} dead rows could not be removed; pg-boss comes to ${format(ofBoss)} × what it did before`
  return atLeast(series, { contender: heldAccepted.name, metric, than: freeAccepted.name, least, text, why })
}

const listDead = (courses: ReadonlyMap<string, HeldCourse>): Listing => ({
  caption: 'Dead rows and sizes, in the last round',
  head: ['', 'when', 'table', 'dead rows', 'table (MB)', 'indexes (MB)'],
  rows: [...courses].flatMap(([contender, { tables }]) =>
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
