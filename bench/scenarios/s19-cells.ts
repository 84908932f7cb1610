import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { type Cell, cells } from '../contenders/cell-faults.ts'
import { type CellFigures, figuresOf, overdueMs, usualSeconds, usualShare } from '../contenders/cell-figures.ts'
import { workMs } from '../contenders/cell-process.ts'
import { type Cluster, measureCapacity, type Phases, runCell } from '../contenders/cell-run.ts'
import { type CellContender, cellContenders } from '../contenders/cells.ts'
import { format } from '../core/format.ts'
import type { PeerRow } from '../core/peers.ts'
import type { Bench, Goal, Listing, Metric, Scenario, Table } from '../core/scenario.ts'
import { startServer } from '../core/server.ts'
import { restartDelayMs } from '../core/supervisor.ts'

const fullPhases: Phases = { warmUp: 5, before: 15, during: 30, after: 30, drain: 60 }
const quickPhases: Phases = { warmUp: 0, before: 0.3, during: 0.6, after: 0.5, drain: 0 }
const quickCells = ['Postgres restart']

/** The harness holds 300 connections idle on a server that allows 400. */
const maxConnections = 400

/** The part of its capacity at which a contender is measured, so that it can also hold 1.5 times the rate. */
const loadFactor = 0.5
const maxPerSecond = 1_000
const quickPerSecond = 100

interface Result {
  cell: Cell
  contender: CellContender
  figures: CellFigures
}

const metrics: Metric[] = [
  { name: 'recovery', label: 'recovery (s)' },
  { name: 'before', label: 'completed before (%)' },
  { name: 'during', label: 'completed during (%)' },
  { name: 'after', label: 'completed after (%)' },
  { name: 'p99Before', label: 'p99 before (ms)' },
  { name: 'p99During', label: 'p99 during (ms)' },
  { name: 'p99After', label: 'p99 after (ms)' },
  { name: 'deadRows', label: 'dead rows' },
  { name: 'repeated', label: 'run twice' },
  { name: 'pending', label: 'not ended' },
  { name: 'lost', label: 'lost' },
]

export const nineCells: Scenario = {
  name: 'S19',
  title: 'Faults and pressure',
  async run(bench) {
    const phases = bench.quick ? quickPhases : fullPhases
    const cluster = await startCluster(bench)
    try {
      const rates = await chooseRates(bench, cluster)
      const results = await runAll(bench, cluster, { phases, rates })
      return {
        tables: [oursIn(results)],
        lineCharts: chartsOf(results, phases),
        listings: [comparison(results), details(results), descriptions(phases), rateList(rates)],
        goals: goalsOf(results),
        peers: peersOf(results),
        notes: notesOf(phases),
      }
    } finally {
      await cluster.stop()
    }
  },
}

/** Starts a Postgres of its own, because the cells restart it. */
async function startCluster({ directory, onClose }: Bench): Promise<Cluster> {
  const [dataDir, migrations] = [join(directory, 'cluster'), join(import.meta.dirname, '../app/migrations')]
  let server = await startServer(dataDir, migrations, { maxConnections })
  onClose(() => server.stop())
  return {
    server: () => server,
    stop: () => server.stop(),
    async start() {
      server = await startServer(dataDir, migrations, { maxConnections, port: server.port })
    },
  }
}

type Rates = ReadonlyMap<CellContender, { capacity?: number; perSecond: number }>

async function chooseRates({ quick, directory, log }: Bench, cluster: Cluster): Promise<Rates> {
  const rates = new Map<CellContender, { capacity?: number; perSecond: number }>()
  for (const contender of cellContenders) {
    if (quick) {
      rates.set(contender, { perSecond: quickPerSecond })
      continue
    }
    const capacity = await measureCapacity(contender, { cluster, directory }, { warmUp: 5, seconds: 10 })
    const perSecond = Math.min(maxPerSecond, Math.floor((capacity * loadFactor) / 10) * 10)
    rates.set(contender, { capacity, perSecond })
    log(`${contender.name} · capacity: ${format(capacity)} jobs/s · measured at ${perSecond} jobs/s`)
  }
  return rates
}

async function runAll(
  { quick, directory, log }: Bench,
  cluster: Cluster,
  { phases, rates }: { phases: Phases; rates: Rates },
): Promise<Result[]> {
  const runs = (quick ? cells.filter(({ name }) => quickCells.includes(name)) : cells).flatMap((cell) =>
    cellContenders.map((contender) => ({ cell, contender })),
  )
  const results: Result[] = []
  const begun = performance.now()
  for (const { cell, contender } of runs) {
    const name = `cell_${results.length + 1}`
    const place = join(directory, name)
    await mkdir(place)
    const perSecond = rates.get(contender)?.perSecond as number
    const run = await runCell(contender, cell, { cluster, directory: place, phases, perSecond, name })
    const figures = figuresOf(run)
    results.push({ cell, contender, figures })
    const minutesLeft = ((performance.now() - begun) / results.length / 60_000) * (runs.length - results.length)
    log(
      `${results.length} of ${runs.length} (${minutesLeft.toFixed(0)} min left) · ${cell.name} · ${contender.name} · ${outcome(figures)} · completed during: ${percent(figures.during)}, after: ${percent(figures.after)}`,
    )
  }
  return results
}

const percent = (share: number) => `${format(100 * share)} %`

const isOurs = ({ contender }: Result) => contender === cellContenders[0]

/** Describes how a cell ended, in a few words. */
function outcome({ lost, pending, failed, recovery, rateBack }: CellFigures): string {
  return [
    recovery === undefined ? 'did not recover' : `recovered in ${format(recovery)} s`,
    ...(recovery === undefined && rateBack !== undefined ? [`usual rate after ${format(rateBack)} s`] : []),
    ...(lost > 0 ? [`**${format(lost)} lost**`] : []),
    ...(pending > 0 ? [`${format(pending)} not ended`] : []),
    ...(failed > 0 ? [`${format(failed)} failed`] : []),
  ].join(', ')
}

function oursIn(results: readonly Result[]): Table {
  const series = results.filter(isOurs).map(({ cell, figures }) => {
    const { points: _, before, during, after, ...rest } = figures
    const shares = { before: 100 * before, during: 100 * during, after: 100 * after }
    return { contender: cell.name, samples: [{ ...rest, ...shares }] }
  })
  return { caption: 'Accepted: nine cells, which are faults or kinds of pressure', metrics, series }
}

function comparison(results: readonly Result[]): Listing {
  const byCell = Map.groupBy(results, ({ cell }) => cell)
  return {
    caption: 'How each cell ended. All workers of a cell belong to one contender',
    head: ['cell', ...cellContenders.map(({ name }) => name)],
    rows: [...byCell].map(([cell, results]) => [cell.name, ...results.map(({ figures }) => outcome(figures))]),
  }
}

const details = (results: readonly Result[]): Listing => ({
  caption:
    'All figures: completed jobs in % of the offered jobs, p99 from the time at which a job was due to the end of its first execution',
  head: [
    'cell',
    'contender',
    'completed before / during / after',
    'p99 before / during / after (ms)',
    'usual rate after (s)',
    'recovery (s)',
    'not enqueued',
    'dead rows',
    'run twice',
    'not ended',
    'failed',
    'lost',
    'workers ended',
  ],
  rows: results.map(({ cell, contender, figures }) => [
    cell.name,
    contender.name,
    [figures.before, figures.during, figures.after].map((share) => format(100 * share)).join(' / '),
    [figures.p99Before, figures.p99During, figures.p99After].map(format).join(' / '),
    seconds(figures.rateBack),
    seconds(figures.recovery),
    ...[
      figures.refused,
      figures.deadRows,
      figures.repeated,
      figures.pending,
      figures.failed,
      figures.lost,
      figures.exits,
    ].map(format),
  ]),
})

const seconds = (value: number | undefined) => (value === undefined ? 'never' : format(value))

const descriptions = ({ during }: Phases): Listing => ({
  caption: `What happens in the phase "during", which takes ${during} s`,
  head: ['cell', 'fault'],
  rows: cells.map((cell) => [cell.name, cell.describe(during)]),
})

const rateList = (rates: Rates): Listing => ({
  caption: `Rates: ${loadFactor} × the measured capacity, but at most ${format(maxPerSecond)} jobs/s`,
  head: ['contender', 'capacity (jobs/s)', 'offered (jobs/s)'],
  rows: [...rates].map(([{ name }, { capacity, perSecond }]) => [
    name,
    capacity === undefined ? '' : format(capacity),
    format(perSecond),
  ]),
})

function peersOf(results: readonly Result[]): PeerRow[] {
  const figuresOf = (pick: (results: readonly Result[]) => number | string) =>
    Object.fromEntries(
      [...Map.groupBy(results, ({ contender }) => contender.name)].map(([name, results]) => [name, pick(results)]),
    )
  const longest = (results: readonly Result[]) => {
    const recoveries = results.map(({ figures }) => figures.recovery)
    return recoveries.includes(undefined) ? 'not within the run' : Math.max(...(recoveries as number[]))
  }
  return [
    {
      measure: `s until no job waits after a fault, longest of ${new Set(results.map(({ cell }) => cell)).size}`,
      better: 'less',
      figures: figuresOf(longest),
    },
    {
      measure: 'jobs lost, or locked at the end, over all faults',
      better: 'less',
      figures: figuresOf((results) => results.reduce((sum, { figures }) => sum + figures.lost + figures.pending, 0)),
    },
  ]
}

/** The cells in which the contenders differ over time. */
const chartedCells = ['Postgres restart', 'repeated kills', 'pg_terminate_backend']

const chartsOf = (results: readonly Result[], { during }: Phases) =>
  chartedCells.flatMap((name) => {
    const lines = results
      .filter(({ cell, figures }) => cell.name === name && figures.points.length > 0)
      .map(({ contender, figures }) => ({ name: contender.name, points: figures.points }))
    if (lines.length === 0) return []
    return {
      caption: `Completed jobs in % of the offered jobs: ${name}`,
      xLabel: 'seconds since the fault began',
      yLabel: 'completed jobs (% of the offered jobs)',
      lines,
      span: { from: 0, to: during, text: 'during' },
    }
  })

function goalsOf(results: readonly Result[]): Goal[] {
  const ours = results.filter(isOurs)
  const sum = (name: 'lost' | 'pending' | 'failed') => ours.reduce((sum, { figures }) => sum + figures[name], 0)
  const namesOf = (results: readonly Result[]) => results.map(({ cell }) => cell.name).join(', ')
  const notRecovered = ours.filter(({ figures }) => figures.recovery === undefined)
  const ratioOf = ({ figures }: Result) => figures.after / figures.before
  const lowest = ours.toSorted((a, b) => ratioOf(a) - ratioOf(b))[0] as Result
  const lost = sum('lost') + sum('pending') + sum('failed')
  return [
    {
      measure: 'jobs lost, not ended or failed in all cells',
      bound: '≤ 0 jobs',
      measured: `${format(lost)} jobs`,
      isMet: lost === 0,
      reason: `${format(sum('lost'))} were lost, ${format(sum('pending'))} had not ended, ${format(sum('failed'))} failed.`,
    },
    {
      measure: 'cells without recovery',
      bound: '≤ 0 cells',
      measured: `${notRecovered.length} cells`,
      isMet: notRecovered.length === 0,
      reason: `Not recovered: ${namesOf(notRecovered)}.`,
    },
    {
      measure: 'completion after the fault, lowest of all cells',
      comparedWith: 'before the fault',
      bound: `≥ ${usualShare} ×`,
      measured: `${format(ratioOf(lowest))} ×`,
      isMet: ratioOf(lowest) >= usualShare,
      reason: `The lowest is that of the cell "${lowest.cell.name}".`,
    },
  ]
}

function notesOf({ warmUp, before, during, after, drain }: Phases): string[] {
  return [
    `Each cell runs once per contender, on a database of its own: ${warmUp} s to warm up, ${before} s before the fault, ${during} s during it and ${after} s after it. Then the producer stops, and the jobs have ${drain} s to end. The cells are those of the [public harness](https://github.com/hardbyte/postgresql-job-queue-benchmarking), which uses longer phases and another machine.`,
    `A producer enqueues at fixed times, even if earlier transactions are open; the jobs that become due within 10 ms share a transaction. It does not repeat transactions that fail, so jobs offered while Postgres is down are never enqueued and count as not completed. A job waits ${workMs} ms. There are two worker processes. A worker that ends is started again after ${format(restartDelayMs / 1000)} s.`,
    `A contender has recovered when, over ${usualSeconds} s, jobs complete at ${usualShare} of the offered rate or more, and no job has waited for more than ${format(overdueMs / 1000)} s (or twice the p99 before the fault, if that is more). The time counts from the end of the fault: the last kill, the start of Postgres, or the end of the phase. A job is lost if its transaction has committed, it was never executed, and the queue does not have it any more. A job that has not ended is still in the queue at the end. Dead rows are counted in all tables of the contender at the end of the phase "during" (\`pgstattuple\`).`,
    'Accepted: `perform` handlers with a `concurrency` of 100. All other options have their defaults: a heartbeat is overdue after 15 s, and the jobs of a killed worker run one by one in quarantine. The producer uses `connect` and `enqueueAll` with an idempotency key per job. `settle` handlers, which are faster and whose effects happen once, are not measured here.',
    'pg-boss: batches of 100, two workers per queue and process, notifications with a poll every 2 s, and heartbeats of 15 s that a supervisor checks every 5 s. With its defaults, without heartbeats, a job of a killed worker waits for 15 minutes. The jobs of a batch run at the same time.',
    'graphile-worker: 24 jobs at once per process, without the local queue. By design, a job of a killed worker stays locked for four hours, so such jobs have not ended when the cell ends; they are not lost. Its documentation recommends to end workers with SIGTERM, and the commercial Worker Pro has heartbeats.',
  ]
}
