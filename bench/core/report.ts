import { execFileSync } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { cpus, release, totalmem } from 'node:os'
import { join } from 'node:path'
import { drawBars, drawLines } from './chart.ts'
import type { Pressure } from './pressure.ts'
import { format, type Goal, type Outcome, type Table, warmUp } from './scenario.ts'
import { median } from './stats.ts'
import type { Waits } from './waits.ts'

/** What was measured at one time. */
export interface Run extends Pressure {
  quick: boolean
  rounds: number
  durability: Readonly<Record<string, string>>
  waits: Waits
  scenarios: ({ name: string; title: string } & Outcome & Pressure)[]
}

type Recorded = Run & Machine

/** Writes a report, again and again. */
export interface Reporter {
  write(run: Run): Promise<void>
}

/**
 * Makes what writes `RESULTS.md`, `results.json` and the charts into a directory. What is there of scenarios that are not
 * measured this time stays.
 */
export async function createReporter(directory: string): Promise<Reporter> {
  const earlier = await readRuns(join(directory, 'results.json'))
  // Of when it began: what is measured may be changed meanwhile.
  const machine = describeMachine()
  return { write: (run) => writeReport(directory, [...without(earlier, run), { ...machine, ...run }]) }
}

async function writeReport(directory: string, runs: readonly Recorded[]): Promise<void> {
  await mkdir(join(directory, 'charts'), { recursive: true })
  await writeFile(join(directory, 'results.json'), `${JSON.stringify(runs, null, 2)}\n`)
  const scenarios = runs.flatMap(({ scenarios }) => scenarios).toSorted((a, b) => numberOf(a) - numberOf(b))
  const sections: string[] = []
  for (const { name, title, tables, courses = [], listings = [], notes = [], cpuPressure } of scenarios) {
    const charts: string[] = []
    const chart = async (caption: string, drawn: string) => {
      const file = `charts/${name.toLowerCase()}-${charts.push(caption)}.svg`
      await writeFile(join(directory, file), drawn)
      return `${caption}\n\n![${caption}](${file})`
    }
    sections.push(`## ${name}: ${title}`)
    for (const table of tables) sections.push(await chart(table.caption, drawBars(table)), figuresOf(table))
    for (const course of courses) sections.push(await chart(course.caption, drawLines(course)))
    for (const { caption, head, rows } of listings) sections.push(caption, rowsOf([head, ...rows]))
    sections.push(...notes)
    if (cpuPressure !== undefined) sections.push(`Meanwhile ${waited(cpuPressure)}.`)
  }
  const head = [
    '# What was measured',
    ...runs.flatMap((run) => headOf(run, runs.length > 1)),
    ...reading,
    ...goalsOf(scenarios),
  ]
  await writeFile(join(directory, 'RESULTS.md'), `${[...head, ...sections].join('\n\n')}\n`)
}

const numberOf = ({ name }: { name: string }) => Number(name.slice(1))

async function readRuns(file: string): Promise<Recorded[]> {
  try {
    return JSON.parse(await readFile(file, 'utf8'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

/** Earlier runs, without what another one has measured again. */
function without(runs: readonly Recorded[], { quick, scenarios: measured }: Run): Recorded[] {
  const names = new Set(measured.map(({ name }) => name))
  return runs
    .filter((run) => run.quick === quick)
    .map((run) => ({ ...run, scenarios: run.scenarios.filter(({ name }) => !names.has(name)) }))
    .filter(({ scenarios }) => scenarios.length > 0)
}

const waited = (cpuPressure: number) =>
  `something that could have run waited for a processor ${format(cpuPressure)} % of the time`

function headOf(run: Recorded, isPart: boolean): string[] {
  const { quick, rounds, durability, waits, cpuPressure } = run
  const settings = Object.entries(durability).map(([name, setting]) => `\`${name} = ${setting}\``)
  const what = [
    ...(isPart ? [`${run.scenarios.map(({ name }) => name).join(', ')}:`] : []),
    `${run.date}, at ${run.commit}, ${rounds} rounds unless a caption says otherwise.`,
    `${run.processors} × ${run.model}, ${run.memory} GiB of memory, Linux ${run.kernel}, Node.js ${run.node}.`,
    ...(quick ? ['**A quick run: everything once and small, to see that it works. The figures mean nothing.**'] : []),
  ]
  const how = [
    `As the server says: ${settings.join(', ')}.`,
    `While nothing else goes on, a round trip to it takes ${shown(waits.roundTrip)}, and a row that is inserted and committed ${shown(waits.commit)}.`,
    ...(cpuPressure === undefined ? [] : [`While it ran, ${waited(cpuPressure)}.`]),
  ]
  return [what.join(' '), how.join(' ')]
}

const reading = [
  'Postgres, the programs that are measured and what loads them share the machine. Contenders take turns. A figure is the median of its rounds, with the least and the greatest; a ratio is the median of the ratios within each round. `npm run bench` does it all again, with `--only` some of it.',
  `What is asked at fixed times was asked ${warmUp.perSecond} times a second for ${warmUp.seconds} s before, unless the run was a quick one: V8 compiles what it runs for the last time after some 10,500 calls, nearly all of it at once. That it does not forget it while it is the turn of others, all Node processes run with \`--no-flush-bytecode\`.`,
  'How much of the time something waited for a processor is what `/proc/pressure/cpu` says (some). What loads as much as it can makes much of that by itself; of two runs, the one with more was disturbed.',
]

const shown = ({ p50, p99 }: Waits['commit']) => `${format(p50)} ms (p99 ${format(p99)} ms)`

function goalsOf(scenarios: Run['scenarios']): string[] {
  const lines = scenarios.flatMap(({ name, title, goals }) =>
    goals.map(({ goal, measured, ...one }) => [`[${name}](#${anchorOf(name, title)})`, goal, measured, verdictOn(one)]),
  )
  return lines.length > 0 ? ['## Goals', rowsOf([['scenario', 'goal', 'measured', ''], ...lines])] : []
}

function verdictOn({ isMet, why }: Pick<Goal, 'isMet' | 'why'>): string {
  return isMet ? 'met' : `**not met**: ${why}`
}

/** Of a heading, as GitHub makes it. */
const anchorOf = (name: string, title: string) =>
  `${name}: ${title}`
    .toLowerCase()
    .replaceAll(/[^\w\- ]/g, '')
    .replaceAll(' ', '-')

interface Machine {
  date: string
  processors: number
  model: string
  memory: number
  kernel: string
  node: string
  commit: string
}

const describeMachine = (): Machine => ({
  date: new Date().toISOString().slice(0, 10),
  processors: cpus().length,
  model: cpus()[0]?.model ?? 'processor',
  memory: Math.round(totalmem() / 2 ** 30),
  kernel: release(),
  node: process.version,
  commit: execFileSync('git', ['describe', '--always', '--dirty'], {
    cwd: import.meta.dirname,
    encoding: 'utf8',
  }).trim(),
})

function figuresOf({ metrics, series }: Table): string {
  const head = ['', ...metrics.map(({ name, unit }) => `${name} (${unit})`)]
  const lines = series.map(({ contender, samples }) => [
    contender,
    ...metrics.map(({ name }) => {
      const values = samples.map((sample) => sample[name]).filter((value) => value !== undefined)
      if (values.length === 0) return ''
      const spread = values.length > 1 ? ` (${format(Math.min(...values))} – ${format(Math.max(...values))})` : ''
      return `${format(median(values))}${spread}`
    }),
  ])
  return rowsOf([head, ...lines])
}

const escaped = (cell: string) => cell.replaceAll('|', '\\|')

const rowsOf = ([head = [], ...lines]: readonly (readonly string[])[]) =>
  [head, head.map(() => '---'), ...lines].map((cells) => `| ${cells.map(escaped).join(' | ')} |`).join('\n')
