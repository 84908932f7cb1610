import type { BaselineLatency } from './baseline-latency.ts'
import { format } from './format.ts'
import type { Sample, Series } from './series.ts'
import type { Server } from './server.ts'

/** The environment of a scenario and its contenders. */
export interface Bench {
  server: Server
  /** What a round trip and a commit take on this machine while it is idle. */
  baseline: BaselineLatency
  /** Run everything once and small. The figures of such a run mean nothing. */
  quick: boolean
  /** How many times each contender is measured. Contenders take turns. */
  rounds: number
  soakMinutes: number
  /** For logs and other files. */
  directory: string
  /** Prints a line of progress. */
  log(text: string): void
}

/** A column of a table. */
export interface Metric {
  /** The key in the samples. */
  name: string
  /** The heading, with the unit: `requests/s`, `p50 (ms)`. */
  label: string
}

/** Contenders side by side. The first metric is drawn as a chart. */
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

/** A value at a time, in the unit of the x axis: seconds or minutes. */
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

export interface Goal {
  /** What is measured: `p50`, or `requests/s ÷ pg-boss`. Goals with the same measure and bound share a line. */
  measure: string
  /** Which of our contenders the goal is for, when several have the same goal. */
  variant?: string
  /** For example `≥ 8 ×`. */
  bound: string
  /** For example `6.15 ×`. */
  measured: string
  isMet: boolean
  /** What limits the figure, in sentences; printed if the goal is missed. */
  reason: string
}

export interface ScenarioResult {
  tables: readonly Table[]
  lineCharts?: readonly LineChart[]
  listings?: readonly Listing[]
  goals: readonly Goal[]
  /** Paragraphs that explain the tables. */
  notes?: readonly string[]
}

export interface Scenario {
  /** `S1` and so on. */
  name: string
  /** A few words. */
  title: string
  run(bench: Bench): Promise<ScenarioResult>
}

/** A program that is measured. */
export interface Contender<Load> {
  name: string
  /** Starts its processes, on a database of its own. */
  open(bench: Bench): Promise<OpenContender<Load>>
}

export interface OpenContender<Load> {
  measure(load: Load): Promise<Sample>
  close(): Promise<void>
}

/**
 * Warms up processes that are measured at a fixed rate. V8 optimizes the code for the last time after about 10,500
 * calls, nearly all of it at the same time, which keeps two processors busy for a quarter of a second.
 */
export const warmUp = { perSecond: 500, seconds: 25 }

/**
 * Measures the contenders in turns, so that a disturbance of the machine hits all of them.
 *
 * @param before run once first, not measured; left out of a quick run
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

/** Varies the order from round to round, so that no contender always follows the same one. */
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
