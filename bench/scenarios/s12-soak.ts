import { type SoakLoad, type SoakWindow, soak } from '../contenders/soak.ts'
import {
  type Course,
  format,
  type Goal,
  interleave,
  type Listing,
  type Metric,
  type Outcome,
  type Scenario,
  withContenders,
} from '../core/scenario.ts'
import type { TableState } from '../core/tables.ts'

const metrics: Metric[] = [
  { name: 'perSecond', unit: '1/s' },
  { name: 'jobs', unit: 'in all' },
  { name: 'failed', unit: 'requests' },
]

/** Of an hour, each is five minutes. */
const windows = 12
const time: Metric = { name: 'time', unit: 'min' }

/** Its rows are deleted while it runs. */
const queue = 'pgboss.job_common'

export const soaking: Scenario = {
  name: 'S12',
  title: 'Soak: requests are accepted and worked on, on and on',
  run(bench) {
    const secondsEach = (bench.soakMinutes * 60) / windows
    const deleteAfterSeconds = Math.max(1, Math.round(secondsEach / 5))
    return withContenders<SoakLoad, Outcome>(bench, [soak], async (opened) => {
      const seen: SoakWindow[] = []
      const onWindow = (window: SoakWindow) => void seen.push(window)
      const load = { windows, secondsEach, mostUnderWay: 5_000, deleteAfterSeconds, onWindow }
      const series = await interleave({ ...bench, rounds: 1 }, opened, load)
      return {
        tables: [
          {
            caption: `Jobs that ended a second, 64 connections in a closed loop, 5,000 jobs under way at most, for ${format(bench.soakMinutes)} minutes. Once`,
            metrics,
            series,
          },
        ],
        courses: coursesOf(seen),
        listings: [listWindows(seen), listLoad(seen)],
        goals: goalsOf(seen),
        notes: [
          `Drift is the last quarter of the time against the second; the first has caches to fill. What has ended leaves the queue ${deleteAfterSeconds} s later, by the queue’s own setting, at the next of the passes that a worker makes every five minutes: so the size of the queue has to stay what it is. The other records are kept for seven days, by the day, which no setting shortens: none goes while it runs, and what has to stay what it is are the bytes for each row, of a table and its indexes.`,
        ],
      }
    })
  },
}

const quarter = (seen: readonly SoakWindow[], number: 2 | 4) =>
  seen.slice(((number - 1) * seen.length) / 4, (number * seen.length) / 4)

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length

function goalsOf(seen: readonly SoakWindow[]): Goal[] {
  const rate = (number: 2 | 4) => mean(quarter(seen, number).map(({ perSecond }) => perSecond))
  const drift = rate(4) / rate(2) - 1
  const growth = (name: string, size: (table: TableState) => number) => {
    const sizes = (some: readonly SoakWindow[]) => some.flatMap((window) => tableIn(window, name) ?? []).map(size)
    return mean(sizes(seen.slice(-1))) / mean(sizes(quarter(seen, 2)))
  }
  const perRow = namesOf(seen)
    .filter((name) => name !== queue)
    .map((name) => ({ name, times: growth(name, bytesEach) }))
  const worst = perRow.toSorted((a, b) => b.times - a.times)[0] ?? { name: 'no table', times: Number.NaN }
  const ofQueue = growth(queue, bytesOf)
  const of = (number: 2 | 4, value: (window: SoakWindow) => number) => format(mean(quarter(seen, number).map(value)))
  const both = (value: (window: SoakWindow) => number) => `${of(4, value)}, in the second ${of(2, value)}`
  const all = ({ api, worker, postgres, feeder }: SoakWindow['cpu']) => api + worker + postgres + feeder
  const why = `in the last quarter a job took ${both(perJob(all))} µs of a processor in all, and wrote ${both(({ walBytes }) => walBytes)} bytes of WAL; of that what feeds, to which tables are nothing, took ${both(feederPerJob)} µs: by about as much the machine itself was slower or faster`
  return [
    { goal: 'throughput drifts by < 5 %', measured: `${format(drift * 100)} %`, isMet: Math.abs(drift) < 0.05, why },
    {
      goal: 'bytes for each row kept, at the end ≤ 1.05 × the second quarter, of every table',
      measured: `${format(worst.times)} × (${worst.name})`,
      isMet: worst.times <= 1.05,
      why,
    },
    {
      goal: 'size of the queue, at the end ≤ 1.1 × the second quarter',
      measured: `${format(ofQueue)} ×`,
      isMet: ofQueue <= 1.1,
      why,
    },
  ]
}

/** What a job took of a processor, in microseconds. */
const perJob =
  (part: (cpu: SoakWindow['cpu']) => number) =>
  ({ cpu, perSecond }: SoakWindow) =>
    (part(cpu) / 100 / perSecond) * 1e6

const feederPerJob = perJob(({ feeder }) => feeder)

/** Tables that have as much as a row for each hundredth job. */
function namesOf(seen: readonly SoakWindow[]): string[] {
  const tables = seen.at(-1)?.tables ?? []
  const most = Math.max(...tables.map(({ rows }) => rows))
  return tables.filter(({ name, rows }) => name === queue || rows > most / 100).map(({ name }) => name)
}

/** Statistics come a second late, so that at first there are none. */
const tableIn = ({ tables }: SoakWindow, name: string): TableState | undefined =>
  tables.find((table) => table.name === name && table.rows > 0)

const bytesOf = ({ heapBytes, indexBytes }: TableState) => heapBytes + indexBytes
const bytesEach = (table: TableState) => bytesOf(table) / table.rows

function coursesOf(seen: readonly SoakWindow[]): Course[] {
  const over = (value: (window: SoakWindow) => number) =>
    seen.map((window) => ({ time: window.end / 60, value: value(window) }))
  const ofTable = (name: string, value: (table: TableState) => number) =>
    seen.flatMap((window) => {
      const table = tableIn(window, name)
      return table ? [{ time: window.end / 60, value: value(table) }] : []
    })
  return [
    {
      caption: 'Throughput over time',
      time,
      metric: { name: 'ended', unit: 'jobs a second' },
      lines: [
        {
          name: soak.name,
          points: seen.flatMap(({ points }) => points.map(({ time, value }) => ({ time: time / 60, value }))),
        },
      ],
    },
    {
      caption: 'Table and indexes, for each row kept',
      time,
      metric: { name: 'size', unit: 'bytes a row' },
      lines: namesOf(seen)
        .filter((name) => name !== queue)
        .map((name) => ({ name, points: ofTable(name, bytesEach) })),
    },
    {
      caption: 'The queue, whose rows go',
      time,
      metric: { name: 'size', unit: 'MB' },
      lines: [
        { name: 'table', points: ofTable(queue, ({ heapBytes }) => heapBytes / 1e6) },
        { name: 'indexes', points: ofTable(queue, ({ indexBytes }) => indexBytes / 1e6) },
      ],
    },
    {
      caption: 'Memory of the processes',
      time,
      metric: { name: 'resident', unit: 'MB' },
      lines: [
        { name: 'API', points: over(({ apiMemory }) => apiMemory / 1e6) },
        { name: 'worker', points: over(({ workerMemory }) => workerMemory / 1e6) },
      ],
    },
  ]
}

function listWindows(seen: readonly SoakWindow[]): Listing {
  const names = namesOf(seen)
  return {
    caption:
      'At the end of each window: jobs a second within it, and of each table its rows, and bytes of the table and of its indexes for each row; of the queue its whole size',
    head: ['minute', 'jobs a second', ...names],
    rows: seen.map((window) => [
      format(window.end / 60),
      format(window.perSecond),
      ...names.map((name) => {
        const table = tableIn(window, name)
        if (!table) return ''
        const { rows, heapBytes, indexBytes } = table
        return name === queue
          ? `${format(rows)}: ${format(heapBytes / 1e6)} + ${format(indexBytes / 1e6)} MB`
          : `${format(rows)}: ${format(heapBytes / rows)} + ${format(indexBytes / rows)}`
      }),
    ]),
  }
}

/** What each needed, and whether rows are updated as they should be. */
const listLoad = (seen: readonly SoakWindow[]): Listing => ({
  caption:
    'Within each window: percent of a core, bytes of WAL for each job, of what feeds also µs of a processor for each job; at its end, of the updates of the status table those within their page and without an index (HOT), and dead rows of all tables',
  head: ['minute', 'API', 'worker', 'Postgres', 'what feeds', 'a job', 'WAL', 'HOT (%)', 'dead rows'],
  rows: seen.map((window) => [
    format(window.end / 60),
    ...[window.cpu.api, window.cpu.worker, window.cpu.postgres, window.cpu.feeder].map(format),
    format(feederPerJob(window)),
    format(window.walBytes),
    format(tableIn(window, 'accepted.job')?.hot ?? 0),
    format(window.tables.reduce((sum, { dead }) => sum + dead, 0)),
  ]),
})
