import type { BaselineLatency } from './baseline-latency.ts'
import { format } from './format.ts'
import type { PeerRow } from './peers.ts'
import type { Sample, Series } from './series.ts'
import type { Server } from './server.ts'

/** The environment of a scenario and its contenders. */
export interface Bench {
  server: Server
  /** How long a round trip and a commit take while the machine is idle. */
  baseline: BaselineLatency
  /** Whether to run each scenario once and briefly. The figures of a quick run mean nothing. */
  quick: boolean
  /** How many times each contender is measured. Contenders take turns. */
  rounds: number
  soakMinutes: number
  /** The directory for logs and other files. */
  directory: string
  /** Prints a line of progress. */
  log(text: string): void
  /** Registers a cleanup step that also runs after a signal. Steps must be safe to run twice. */
  onClose(step: () => Promise<unknown>): void
}

/** A column of a table. */
export interface Metric {
  /** The key in the samples. */
  name: string
  /** The heading, with the unit: `requests/s`, `p50 (ms)`. */
  label: string
}

/** The figures of several contenders. The report also draws the first metric as a chart. */
export interface Table {
  caption: string
  metrics: readonly Metric[]
  series: readonly Series[]
}

/** Values over time. */
export interface LineChart {
  caption: string
  /** Axis labels, with units. */
  xLabel: string
  yLabel: string
  lines: readonly { name: string; points: readonly Point[] }[]
  /** A period to mark. */
  span?: { from: number; to: number; text: string }
}

/** A value at a time. The unit of the time is the unit of the x axis: seconds or minutes. */
export interface Point {
  time: number
  value: number
}

/** A table of text. */
export interface Listing {
  caption: string
  head: readonly string[]
  rows: readonly (readonly string[])[]
}

/** An upper or lower bound for a figure of Accepted. */
export interface Goal {
  /** For example `p50`. */
  measure: string
  /** Names the divisor of the figure, for example `graphile-worker`. Undefined if the goal is an absolute limit. */
  comparedWith?: string
  /** Names the measured variant of Accepted, if several have the same goal. The variants share a row of the report. */
  variant?: string
  /** With its unit, for example `≥ 8 ×` or `≤ 2 ms`. */
  bound: string
  /** With its unit, for example `6.15 ×`. */
  measured: string
  isMet: boolean
  /** Explains what limits the figure. The report prints these sentences if the goal is missed. */
  reason: string
}

export interface ScenarioResult {
  tables: readonly Table[]
  lineCharts?: readonly LineChart[]
  listings?: readonly Listing[]
  goals: readonly Goal[]
  /** What the scenario contributes to the comparison with other programs, at the top of the report. */
  peers?: readonly PeerRow[]
  /** Paragraphs that explain the tables. */
  notes?: readonly string[]
}

export interface Scenario {
  /** For example `S1`. */
  name: string
  /** A few words. */
  title: string
  run(bench: Bench): Promise<ScenarioResult>
}

/** A program that is measured. */
export interface Contender<Load> {
  name: string
  /** Starts the processes of the contender, on a database that no other contender uses. */
  open(bench: Bench): Promise<OpenContender<Load>>
}

export interface OpenContender<Load> {
  measure(load: Load): Promise<Sample>
  close(): Promise<void>
}

/**
 * The load that warms up processes before a measurement at a fixed rate. After about 10,500 calls, V8 optimizes nearly
 * all of the code for the last time. This keeps two processors busy for a quarter of a second.
 */
export const warmUp = { perSecond: 500, seconds: 25 }

/**
 * Measures the contenders in turns, so that a disturbance of the machine affects all of them.
 *
 * @param before a load that runs once before the measurement; a quick run skips it
 */
export async function interleave<Load>(
  { quick, log, rounds }: Pick<Bench, 'quick' | 'log' | 'rounds'>,
  contenders: readonly { name: string; opened: OpenContender<Load> }[],
  metrics: readonly Metric[],
  load: Load,
  before?: Load,
): Promise<Series[]> {
  if (before !== undefined && !quick) for (const { opened } of contenders) await opened.measure(before)
  const series = contenders.map(({ name }) => ({ contender: name, samples: [] as Sample[] }))
  for (let round = 1; round <= rounds; round++) {
    for (const [index, { name, opened }] of inOrder([...contenders.entries()], round)) {
      const sample = await opened.measure(load)
      series[index]?.samples.push(sample)
      log(`round ${round} of ${rounds} · ${name} · ${describeSample(sample, metrics)}`)
    }
  }
  return series
}

export const describeSample = (sample: Sample, metrics: readonly Metric[]): string =>
  metrics
    .flatMap(({ name, label }) => (sample[name] === undefined ? [] : `${label}: ${format(sample[name])}`))
    .join(' · ')

/** Changes the order every round, so that a contender does not always run after the same other contender. */
function inOrder<One>(all: readonly One[], round: number): One[] {
  const first = Math.floor((round - 1) / 2) % all.length
  const rotated = [...all.slice(first), ...all.slice(0, first)]
  return round % 2 === 0 ? rotated.reverse() : rotated
}

/** Opens all contenders at the same time, and closes them even after an error. */
export async function withContenders<Load, Result>(
  bench: Bench,
  contenders: readonly Contender<Load>[],
  use: (opened: { name: string; opened: OpenContender<Load> }[]) => Promise<Result>,
): Promise<Result> {
  const opening = await Promise.allSettled(
    contenders.map(async ({ name, open }) => ({ name, opened: await open(bench) })),
  )
  try {
    return await use(opening.map(unwrap))
  } finally {
    const closing = opening.map((one) => (one.status === 'fulfilled' ? one.value.opened.close() : undefined))
    for (const one of await Promise.allSettled(closing)) unwrap(one)
  }
}

function unwrap<Value>(settled: PromiseSettledResult<Value>): Value {
  if (settled.status === 'rejected') throw settled.reason
  return settled.value
}

export interface Comparison<Load> extends Pick<Table, 'caption' | 'metrics'> {
  contenders: readonly Contender<Load>[]
  load: Load
  /** Runs once before the measurement. */
  before: Load
}

/** Measures contenders for one table. A quick run measures the first two. */
export const measureTable = <Load>(
  bench: Bench,
  { caption, metrics, contenders, load, before }: Comparison<Load>,
): Promise<Table> =>
  withContenders<Load, Table>(bench, bench.quick ? contenders.slice(0, 2) : contenders, async (opened) => {
    bench.log(caption)
    return { caption, metrics, series: await interleave(bench, opened, metrics, load, before) }
  })
