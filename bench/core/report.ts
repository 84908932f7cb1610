import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { BaselineLatency } from './baseline-latency.ts'
import { drawBars, drawLines } from './chart.ts'
import { format } from './format.ts'
import type { Machine } from './machine.ts'
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

/** Reads the runs in a results file; none if it does not exist. */
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
 * Adds a run to earlier ones and drops their results of the same scenarios. Quick runs and full runs are never mixed.
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
  // The goals do not apply to a quick run. Quick runs and full runs are never mixed.
  const isQuick = runs.some(({ quick }) => quick)
  const sections: string[] = []
  for (const scenario of scenarios) sections.push(...(await sectionOf(directory, scenario, isQuick)))
  const paragraphs = ['# Benchmark results', ...summaryOf(scenarios, isQuick), ...methodOf(runs), ...sections]
  await writeFile(join(directory, 'RESULTS.md'), `${paragraphs.join('\n\n')}\n`)
}

const numberOf = ({ name }: { name: string }) => Number(name.slice(1))
const byNumber = (a: { name: string }, b: { name: string }) => numberOf(a) - numberOf(b)

function summaryOf(scenarios: readonly MeasuredScenario[], isQuick: boolean): string[] {
  const lines = scenarios.flatMap((scenario) =>
    linesOf(scenario.goals).map(({ measure, bound, measured, isMet }) => [
      `[${scenario.name}](#${anchorOf(scenario)}) ${scenario.title}`,
      measure,
      measured,
      bound,
      isQuick ? '' : isMet ? 'met' : '**missed**',
    ]),
  )
  const warning = isQuick
    ? ['**Quick run: each contender ran once and small, to check that the bench works. The figures mean nothing.**']
    : []
  const legend =
    'A ratio (`×`) is ours divided by the other one. The scenario sections say why a goal is missed. [How it was measured](#how-it-was-measured).'
  return [...warning, tableOf([['scenario', 'measure', 'measured', 'goal', 'result'], ...lines]), legend]
}

/** Merges goals that differ only in which of our contenders was measured into one line each. */
function linesOf(goals: readonly Goal[]): Pick<Goal, 'measure' | 'bound' | 'measured' | 'isMet'>[] {
  const groups = Map.groupBy(goals, ({ measure, bound }) => `${measure}|${bound}`)
  return [...groups.values()].map((group) => {
    const [{ measure, bound }] = group as [Goal]
    const measured = group.map(({ measured, variant }) => (variant ? `${measured} (${variant})` : measured)).join(', ')
    return { measure, bound, measured, isMet: group.every(({ isMet }) => isMet) }
  })
}

/** The anchor that GitHub gives a heading. */
const anchorOf = ({ name, title }: { name: string; title: string }) =>
  `${name}: ${title}`
    .toLowerCase()
    .replaceAll(/[^\w\- ]/g, '')
    .replaceAll(' ', '-')

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
  'The number of rounds holds unless a caption says otherwise. Round trip and commit are the latencies of Postgres while the machine is idle: a statement that reads nothing, and one that inserts a row and commits.',
  'Postgres, the measured programs and the load generator share the machine. Contenders take turns. A figure is the median of its rounds, with the lowest and the highest in parentheses. A ratio is the median of the ratios within each round.',
  `What is measured at a fixed rate is warmed up before with ${warmUp.perSecond} requests or jobs per second for ${warmUp.seconds} s, except in a quick run: V8 optimizes code for the last time after some 10,500 calls, nearly all of it at once. All Node.js processes run with \`--no-flush-bytecode\`, so that V8 keeps compiled code while other contenders are measured.`,
  'CPU pressure is the percentage of the time in which a runnable task waited for a processor (`some` in `/proc/pressure/cpu`). A load that uses the machine fully causes much of it by itself. Of two runs of the same scenario, the one with more pressure was disturbed.',
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

/** Explains the missed goals; goals with the same reason share a paragraph. */
function missedIn(goals: readonly Goal[]): string[] {
  const missed = Map.groupBy(
    goals.filter(({ isMet }) => !isMet),
    ({ reason }) => reason,
  )
  return [...missed].map(([reason, goals]) => {
    const figures = goals.map(
      ({ measure, variant, measured, bound }) =>
        `${measure}${variant ? ` (${variant})` : ''}: ${measured} (goal ${bound})`,
    )
    return `**Missed:** ${figures.join('; ')}. ${reason}`
  })
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
