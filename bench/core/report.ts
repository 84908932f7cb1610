import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { BaselineLatency } from './baseline-latency.ts'
import { drawBars, drawLines } from './chart.ts'
import { format } from './format.ts'
import { describeGoal } from './goal.ts'
import type { Machine } from './machine.ts'
import { peerLegend, peerLines } from './peers.ts'
import type { Pressure } from './pressure.ts'
import { type Goal, type ScenarioResult, type Table, warmUp } from './scenario.ts'
import { median } from './stats.ts'

/** The results of one run of the bench. */
export interface Run extends Machine, Pressure {
  quick: boolean
  rounds: number
  durability: Readonly<Record<string, string>>
  baseline: BaselineLatency
  scenarios: MeasuredScenario[]
}

type MeasuredScenario = { name: string; title: string } & ScenarioResult & Pressure

/** Reads the runs in a results file. Returns no runs if the file does not exist. */
export async function readRuns(file: string): Promise<Run[]> {
  try {
    return JSON.parse(await readFile(file, 'utf8'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

export const writeRuns = (file: string, runs: readonly Run[]): Promise<void> =>
  writeFile(file, `${JSON.stringify(runs, null, 2)}\n`)

/**
 * Adds a run to earlier runs. Drops earlier results of the scenarios that this run has measured. A quick run drops all
 * full runs, and a full run drops all quick runs.
 */
export function mergeRun(earlier: readonly Run[], run: Run): Run[] {
  const measured = new Set(run.scenarios.map(({ name }) => name))
  const kept = earlier
    .filter(({ quick }) => quick === run.quick)
    .map((one) => ({ ...one, scenarios: one.scenarios.filter(({ name }) => !measured.has(name)) }))
  return [...kept, run].filter(({ scenarios }) => scenarios.length > 0)
}

/** Writes `RESULTS.md` and `charts/` into a directory. */
export async function writeReport(directory: string, runs: readonly Run[]): Promise<void> {
  await rm(join(directory, 'charts'), { recursive: true, force: true })
  await mkdir(join(directory, 'charts'), { recursive: true })
  const scenarios = runs.flatMap(({ scenarios }) => scenarios).toSorted(byNumber)
  // `mergeRun` never mixes quick runs and full runs, so all runs are of the same kind.
  const isQuick = runs.some(({ quick }) => quick)
  const sections: string[] = []
  for (const scenario of scenarios) sections.push(...(await sectionOf(directory, scenario, isQuick)))
  const paragraphs = [
    '# Benchmark results',
    ...(isQuick ? [quickWarning] : []),
    peerLegend,
    tableOf(peerLines(scenarios)),
    '## Goals',
    ratioTable(scenarios, isQuick),
    legend,
    ...methodOf(runs),
    '## Limits',
    limitTable(scenarios, isQuick),
    ...sections,
  ]
  await writeFile(join(directory, 'RESULTS.md'), `${paragraphs.join('\n\n')}\n`)
}

const numberOf = ({ name }: { name: string }) => Number(name.slice(1))
const byNumber = (a: { name: string }, b: { name: string }) => numberOf(a) - numberOf(b)

const quickWarning =
  '**Quick run: each scenario ran once and briefly, to check that the bench works. The figures mean nothing.**'

const legend =
  'A ratio divides the figure in the second column by that in the third. The section of a scenario says why a goal is missed. Goals for a single figure are under [Limits](#limits).'

function ratioTable(scenarios: readonly MeasuredScenario[], isQuick: boolean): string {
  const rows = goalRows(scenarios, isQuick).flatMap(({ scenario, measure, comparedWith, measured, bound, result }) =>
    comparedWith === undefined ? [] : [[scenario, measure, comparedWith, measured, bound, result]],
  )
  return tableOf([['scenario', 'measured', 'compared with', 'ratio', 'goal', 'result'], ...rows])
}

function limitTable(scenarios: readonly MeasuredScenario[], isQuick: boolean): string {
  const rows = goalRows(scenarios, isQuick).flatMap(({ scenario, measure, comparedWith, measured, bound, result }) =>
    comparedWith === undefined ? [[scenario, measure, measured, bound, result]] : [],
  )
  return tableOf([['scenario', 'measured', 'figure', 'limit', 'result'], ...rows])
}

/** Lists the goals. All variants of a goal share a row. Goals do not apply to a quick run, so its results are empty. */
const goalRows = (scenarios: readonly MeasuredScenario[], isQuick: boolean) =>
  scenarios.flatMap(({ name, title, goals }) =>
    mergeVariants(goals).map(({ isMet, ...goal }) => ({
      ...goal,
      scenario: `${name} ${title}`,
      result: isQuick ? '' : isMet ? 'met' : '**missed**',
    })),
  )

/** Merges goals that differ only in the measured variant of Accepted. */
function mergeVariants(goals: readonly Goal[]): Omit<Goal, 'variant' | 'reason'>[] {
  const groups = Map.groupBy(goals, ({ measure, comparedWith, bound }) => [measure, comparedWith, bound].join('|'))
  return [...groups.values()].map((group) => {
    const [{ variant: _, reason: __, ...goal }] = group as [Goal]
    const measured = group.map(({ measured, variant }) => (variant ? `${measured} (${variant})` : measured)).join(', ')
    return { ...goal, measured, isMet: group.every(({ isMet }) => isMet) }
  })
}

function methodOf(runs: readonly Run[]): string[] {
  const environments = Map.groupBy(runs, environmentOf)
  const paragraphs = [...environments].map(([environment, runs]) =>
    environments.size > 1 ? `${namesIn(runs)}: ${environment}` : environment,
  )
  return ['## How it was measured', ...paragraphs, runTable(runs), ...method]
}

const namesIn = (runs: readonly Run[]) =>
  runs
    .flatMap(({ scenarios }) => scenarios)
    .toSorted(byNumber)
    .map(({ name }) => name)
    .join(', ')

function environmentOf({ processors, model, memory, kernel, node, durability }: Run): string {
  const { server_version: version, ...others } = durability
  const settings = Object.entries(others).map(([name, setting]) => `\`${name} = ${setting}\``)
  return `${processors} × ${model}, ${memory} GiB of memory, Linux ${kernel}, Node.js ${node}, PostgreSQL ${version} with ${settings.join(', ')}.`
}

function runTable(runs: readonly Run[]): string {
  const head = [
    'scenarios',
    'date',
    'commit',
    'rounds',
    'round trip, p50 / p99 (ms)',
    'insert and commit, p50 / p99 (ms)',
    'CPU pressure',
  ]
  const percentiles = ({ p50, p99 }: BaselineLatency['commit']) => `${format(p50)} / ${format(p99)}`
  const lines = runs
    .toSorted((a, b) => Math.min(...a.scenarios.map(numberOf)) - Math.min(...b.scenarios.map(numberOf)))
    .map((run) => [
      namesIn([run]),
      run.date,
      run.commit,
      String(run.rounds),
      percentiles(run.baseline.roundTrip),
      percentiles(run.baseline.commit),
      run.cpuPressure === undefined ? '' : `${format(run.cpuPressure)} %`,
    ])
  return tableOf([head, ...lines])
}

const method = [
  'The number of rounds applies unless a caption gives another one. "Round trip" and "insert and commit" are the latencies of single statements while the machine is idle: the first statement reads nothing, the second inserts a row and commits.',
  'Postgres, the measured programs and the load generator share the machine. Contenders take turns. A figure is the median of all rounds, with the lowest and the highest round in parentheses. A ratio is computed for each round, and its median is shown.',
  `Before a measurement at a fixed rate, each contender gets ${warmUp.perSecond} requests or jobs per second for ${warmUp.seconds} s, except in a quick run. V8 optimizes nearly all of the code for the last time after some 10,500 calls, all at once. All Node.js processes run with \`--no-flush-bytecode\`, so that V8 keeps the compiled code of a contender while others are measured.`,
  'CPU pressure is the percentage of the time in which a runnable task waited for a processor (`some` in `/proc/pressure/cpu`). A load that uses all processors causes much of it by itself. If the pressure of two runs of a scenario differs, other programs disturbed the run with more pressure.',
]

async function sectionOf(directory: string, scenario: MeasuredScenario, isQuick: boolean): Promise<string[]> {
  const { name, title, tables, lineCharts = [], listings = [], goals, notes = [], cpuPressure } = scenario
  let charts = 0
  const chart = async (label: string, svg: string) => {
    const file = `charts/${name.toLowerCase()}-${++charts}.svg`
    await writeFile(join(directory, file), svg)
    return `![${label}](${file})`
  }
  const parts: string[] = [`## ${name}: ${title}`, ...(isQuick ? [] : missedIn(goals))]
  for (const table of tables) {
    parts.push(table.caption, await chart(table.metrics[0]?.label ?? '', drawBars(table)), figuresOf(table))
  }
  for (const one of lineCharts) parts.push(one.caption, await chart(one.yLabel, drawLines(one)))
  for (const { caption, head, rows } of listings) parts.push(caption, tableOf([head, ...rows]))
  parts.push(...notes)
  if (cpuPressure !== undefined) parts.push(`CPU pressure during this scenario: ${format(cpuPressure)} %.`)
  return parts
}

/** Explains the missed goals. Goals with the same reason share a paragraph. */
function missedIn(goals: readonly Goal[]): string[] {
  const missed = Map.groupBy(
    goals.filter(({ isMet }) => !isMet),
    ({ reason }) => reason,
  )
  return [...missed].map(([reason, goals]) => `**Missed:** ${goals.map(describeGoal).join('; ')}. ${reason}`)
}

function figuresOf({ metrics, series }: Table): string {
  const head = ['', ...metrics.map(({ label }) => label)]
  const lines = series.map(({ contender, samples }) => [
    contender,
    ...metrics.map(({ name }) => {
      const values = samples.map((sample) => sample[name]).filter((value) => value !== undefined)
      if (values.length === 0) return ''
      const spread = values.length > 1 ? ` (${format(Math.min(...values))} – ${format(Math.max(...values))})` : ''
      return `${format(median(values))}${spread}`
    }),
  ])
  return tableOf([head, ...lines])
}

const escapeCell = (cell: string) => cell.replaceAll('|', '\\|')

const tableOf = ([head = [], ...lines]: readonly (readonly string[])[]) =>
  [head, head.map(() => '---'), ...lines].map((cells) => `| ${cells.map(escapeCell).join(' | ')} |`).join('\n')
