import { type SoakLoad, type SoakWindow, soak } from '../contenders/soak.ts'
import { format } from '../core/format.ts'
import {
  type Goal,
  interleave,
  type LineChart,
  type Listing,
  type Metric,
  type Scenario,
  type ScenarioResult,
  withContenders,
} from '../core/scenario.ts'
import { queueTable, type TableStatistics } from '../core/tables.ts'

const metrics: Metric[] = [
  { name: 'perSecond', label: 'jobs/s' },
  { name: 'jobs', label: 'jobs completed' },
  { name: 'failed', label: 'failed requests' },
]

/** By default, the soak takes an hour, and each window five minutes. */
const windowCount = 12
const maxJobsInFlight = 5_000
const xLabel = 'minutes'

export const soaking: Scenario = {
  name: 'S12',
  title: 'Soak',
  run(bench) {
    const secondsPerWindow = (bench.soakMinutes * 60) / windowCount
    return withContenders<SoakLoad, ScenarioResult>(bench, [soak], async (opened) => {
      const seen: SoakWindow[] = []
      const onWindow = (window: SoakWindow) => void seen.push(window)
      const load = { windowCount, secondsPerWindow, maxJobsInFlight, onWindow }
      const series = await interleave({ ...bench, rounds: 1 }, opened, metrics, load)
      return {
        tables: [
          {
            caption: `Completed jobs, closed loop, 64 connections, at most ${maxJobsInFlight.toLocaleString('en-US')} jobs in flight, for ${format(bench.soakMinutes)} minutes. Rounds: 1`,
            metrics,
            series,
          },
        ],
        lineCharts: chartsOf(seen),
        listings: [listTables(seen), listLoad(seen)],
        goals: goalsOf(seen),
        notes: [
          'Drift compares the last quarter of the run with the second, because caches fill in the first. A job leaves the queue when it succeeds, so the size of the queue has to stay the same. All other rows are kept for seven days, so the run deletes none of them. Their number grows, but the bytes per row of each table and its indexes have to stay the same.',
        ],
      }
    })
  },
}

const quarter = (seen: readonly SoakWindow[], number: 2 | 4) =>
  seen.slice(((number - 1) * seen.length) / 4, (number * seen.length) / 4)

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length

const maxDriftPercent = 5
const maxRowGrowth = 1.05
const maxQueueGrowth = 1.1

function goalsOf(seen: readonly SoakWindow[]): Goal[] {
  const rate = (number: 2 | 4) => mean(quarter(seen, number).map(({ perSecond }) => perSecond))
  const drift = (rate(4) / rate(2) - 1) * 100
  const growth = (name: string, size: (table: TableStatistics) => number) => {
    const sizes = (some: readonly SoakWindow[]) => some.flatMap((window) => tableIn(window, name) ?? []).map(size)
    return mean(sizes(seen.slice(-1))) / mean(sizes(quarter(seen, 2)))
  }
  const growths = keptTables(seen).map((name) => ({ name, growth: growth(name, bytesPerRow) }))
  const worst = growths.toSorted((a, b) => b.growth - a.growth)[0] ?? { name: 'no table', growth: Number.NaN }
  const queueGrowth = growth(queueTable, bytesOf)
  const reason = explainDrift(seen)
  return [
    {
      measure: 'drift of throughput',
      bound: `< ${maxDriftPercent} %`,
      measured: `${format(drift)} %`,
      isMet: Math.abs(drift) < maxDriftPercent,
      reason,
    },
    {
      measure: 'bytes/row at the end, worst table',
      comparedWith: 'second quarter',
      bound: `≤ ${maxRowGrowth} ×`,
      measured: `${format(worst.growth)} × (${worst.name})`,
      isMet: worst.growth <= maxRowGrowth,
      reason,
    },
    {
      measure: 'size of the queue at the end',
      comparedWith: 'second quarter',
      bound: `≤ ${maxQueueGrowth} ×`,
      measured: `${format(queueGrowth)} ×`,
      isMet: queueGrowth <= maxQueueGrowth,
      reason,
    },
  ]
}

function explainDrift(seen: readonly SoakWindow[]): string {
  const figure = (number: 2 | 4, value: (window: SoakWindow) => number) =>
    format(mean(quarter(seen, number).map(value)))
  const cost = (number: 2 | 4) =>
    `${figure(
      number,
      cpuPerJob(({ api, worker, postgres, feeder }) => api + worker + postgres + feeder),
    )} µs of CPU in all, ${figure(number, feederCpuPerJob)} µs of them in the load generator, and ${figure(number, ({ walBytes }) => walBytes)} bytes of WAL`
  return `In the last quarter a job took ${cost(4)}; in the second ${cost(2)}. The load generator does not use the tables, so a change in its CPU time per job means that the machine itself became slower or faster.`
}

/** CPU time per job, in microseconds. */
const cpuPerJob =
  (part: (cpu: SoakWindow['cpu']) => number) =>
  ({ cpu, perSecond }: SoakWindow) =>
    (part(cpu) / 100 / perSecond) * 1e6

const feederCpuPerJob = cpuPerJob(({ feeder }) => feeder)

/** Returns the tables whose rows are kept. Skips tables with less than a hundredth of the rows of the largest table. */
function keptTables(seen: readonly SoakWindow[]): string[] {
  const tables = seen.at(-1)?.tables.filter(({ name }) => name !== queueTable) ?? []
  const maxRows = Math.max(...tables.map(({ rows }) => rows))
  return tables.filter(({ rows }) => rows > maxRows / 100).map(({ name }) => name)
}

/** Finds a table. Skips an empty table, because statistics arrive a second late. Only the queue may be empty. */
const tableIn = ({ tables }: SoakWindow, name: string): TableStatistics | undefined =>
  tables.find((table) => table.name === name && (table.rows > 0 || name === queueTable))

const bytesOf = ({ heapBytes, indexBytes }: TableStatistics) => heapBytes + indexBytes
const bytesPerRow = (table: TableStatistics) => bytesOf(table) / table.rows

function chartsOf(seen: readonly SoakWindow[]): LineChart[] {
  const overTime = (value: (window: SoakWindow) => number) =>
    seen.map((window) => ({ time: window.end / 60, value: value(window) }))
  const ofTable = (name: string, value: (table: TableStatistics) => number) =>
    seen.flatMap((window) => {
      const table = tableIn(window, name)
      return table ? [{ time: window.end / 60, value: value(table) }] : []
    })
  return [
    {
      caption: 'Throughput',
      xLabel,
      yLabel: 'jobs/s',
      lines: [
        {
          name: soak.name,
          points: seen.flatMap(({ points }) => points.map(({ time, value }) => ({ time: time / 60, value }))),
        },
      ],
    },
    {
      caption: 'Size of each table with its indexes, per row',
      xLabel,
      yLabel: 'bytes/row',
      lines: keptTables(seen).map((name) => ({ name, points: ofTable(name, bytesPerRow) })),
    },
    {
      caption: 'Size of the queue',
      xLabel,
      yLabel: 'MB',
      lines: [
        { name: 'table', points: ofTable(queueTable, ({ heapBytes }) => heapBytes / 1e6) },
        { name: 'indexes', points: ofTable(queueTable, ({ indexBytes }) => indexBytes / 1e6) },
      ],
    },
    {
      caption: 'Memory of the processes',
      xLabel,
      yLabel: 'resident set (MB)',
      lines: [
        { name: 'API', points: overTime(({ apiMemory }) => apiMemory / 1e6) },
        { name: 'worker', points: overTime(({ workerMemory }) => workerMemory / 1e6) },
      ],
    },
  ]
}

function listTables(seen: readonly SoakWindow[]): Listing {
  const names = [...keptTables(seen), queueTable]
  return {
    caption:
      'Jobs per second in each window, and at the end of the window for each table: rows, and bytes per row of the table + of its indexes; for the queue its whole size',
    head: ['minute', 'jobs/s', ...names],
    rows: seen.map((window) => [
      format(window.end / 60),
      format(window.perSecond),
      ...names.map((name) => {
        const table = tableIn(window, name)
        if (!table) return ''
        const { rows, heapBytes, indexBytes } = table
        // Statistics lag behind. A delete may be counted before its insert, so the number of rows may be negative.
        return name === queueTable
          ? `${format(Math.max(0, rows))}: ${format(heapBytes / 1e6)} + ${format(indexBytes / 1e6)} MB`
          : `${format(rows)}: ${format(heapBytes / rows)} + ${format(indexBytes / rows)}`
      }),
    ]),
  }
}

const listLoad = (seen: readonly SoakWindow[]): Listing => ({
  caption:
    'In each window: CPU in percent of a core, for the load generator also per job, and WAL. At the end of the window: the share of HOT updates of the status table, and the dead rows of all tables',
  head: [
    'minute',
    'API (%)',
    'worker (%)',
    'Postgres (%)',
    'load generator (%)',
    'load generator (µs/job)',
    'WAL bytes/job',
    'HOT (%)',
    'dead rows',
  ],
  rows: seen.map((window) => [
    format(window.end / 60),
    ...[window.cpu.api, window.cpu.worker, window.cpu.postgres, window.cpu.feeder].map(format),
    format(feederCpuPerJob(window)),
    format(window.walBytes),
    format(tableIn(window, 'accepted.job')?.hot ?? 0),
    format(window.tables.reduce((sum, { dead }) => sum + dead, 0)),
  ]),
})
