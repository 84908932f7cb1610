import type { Server } from './server.ts'
import type { Waits } from './waits.ts'

/** What a scenario runs on. */
export interface Bench {
  server: Server
  /** What cannot be shorter on this machine. */
  waits: Waits
  /** Everything once, and small. */
  quick: boolean
  /** How often each contender is measured; they take turns. */
  rounds: number
  /** How long the soak takes. */
  soakMinutes: number
  /** For logs and the like. */
  directory: string
  /** Tells whoever waits how far it is. */
  say(text: string): void
}

/** What is measured once, by the name of the metric. */
export type Sample = Readonly<Record<string, number>>

/** How a metric is shown. */
export interface Metric {
  name: string
  /** For example `1/s` or `ms`. */
  unit: string
}

/** What a contender came to, round by round. */
export interface Series {
  contender: string
  samples: Sample[]
}

/** Contenders side by side; the first metric is drawn. */
export interface Table {
  /** What was done, in a sentence. */
  caption: string
  metrics: readonly Metric[]
  series: readonly Series[]
}

/** How something went over time, line by line. */
export interface Course {
  caption: string
  /** In seconds or minutes. */
  time: Metric
  metric: Metric
  lines: readonly { name: string; points: readonly Point[] }[]
  /** What was done from one time to another. */
  span?: { from: number; to: number; text: string }
}

export interface Point {
  time: number
  value: number
}

/** What is no figure of a contender, in rows of text. */
export interface Listing {
  caption: string
  head: readonly string[]
  rows: readonly (readonly string[])[]
}

/** What is to be reached, and what was. */
export interface Goal {
  goal: string
  measured: string
  isMet: boolean
  /** What bounds it, should it be missed: with what was measured. */
  why: string
}

/** What a scenario came to. */
export interface Outcome {
  tables: readonly Table[]
  courses?: readonly Course[]
  listings?: readonly Listing[]
  goals: readonly Goal[]
  notes?: readonly string[]
}

export interface Scenario {
  /** As in `S1`. */
  name: string
  title: string
  run(bench: Bench): Promise<Outcome>
}

/** One of those who are compared. */
export interface Contender<Work> {
  name: string
  /** Starts what it needs, on a database of its own. */
  open(bench: Bench): Promise<Opened<Work>>
}

export interface Opened<Work> {
  measure(work: Work): Promise<Sample>
  close(): Promise<void>
}

/**
 * What makes a process warm that is asked at fixed times: V8 compiles what it runs for the last time after some 10,500
 * calls, nearly all of it at once, which takes both processors for a quarter of a second.
 */
export const warmUp = { perSecond: 500, seconds: 25 }

/**
 * Measures the contenders in turns, so that what disturbs the machine disturbs all of them.
 *
 * @param before what they do first, which belongs to the compiler. A quick run, which tells nothing of speed,
 * does without
 */
export async function interleave<Work>(
  { quick, say, rounds }: Bench,
  contenders: readonly { name: string; opened: Opened<Work> }[],
  work: Work,
  before?: Work,
): Promise<Series[]> {
  if (before !== undefined && !quick) for (const { opened } of contenders) await opened.measure(before)
  const series = contenders.map(({ name }) => ({ contender: name, samples: [] as Sample[] }))
  for (let round = 1; round <= rounds; round++) {
    for (const [index, { name, opened }] of inTurn([...contenders.entries()], round)) {
      const sample = await opened.measure(work)
      series[index]?.samples.push(sample)
      const shown = Object.entries(sample).map(([metric, value]) => `${metric} ${format(value)}`)
      say(`round ${round} of ${rounds} · ${name} · ${shown.join(' · ')}`)
    }
  }
  return series
}

/** Others begin in each round, and in every other one they go backwards: nobody always follows the same one. */
function inTurn<One>(all: readonly One[], round: number): One[] {
  const first = round % all.length
  const turns = [...all.slice(first), ...all.slice(0, first)]
  return round % 2 === 0 ? turns : turns.reverse()
}

/** Opens contenders, all at once, and closes them whatever happens. */
export async function withContenders<Work, Result>(
  bench: Bench,
  contenders: readonly Contender<Work>[],
  use: (opened: { name: string; opened: Opened<Work> }[]) => Promise<Result>,
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

/** As many digits as mean something. */
export const format = (value: number): string =>
  Math.abs(value) >= 100 ? Math.round(value).toLocaleString('en-US') : String(Number(value.toPrecision(3)))
