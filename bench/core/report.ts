import { execFileSync } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { cpus, release, totalmem } from 'node:os'
import { join } from 'node:path'
import { drawBars, drawLines } from './chart.ts'
import type { Pressure } from './pressure.ts'
import { format, type Goal, type Outcome, type Table } from './scenario.ts'
import { median } from './stats.ts'
import type { Waits } from './waits.ts'

/** What was measured, of all scenarios. */
export interface Report extends Pressure {
  quick: boolean
  rounds: number
  durability: Readonly<Record<string, string>>
  waits: Waits
  scenarios: ({ name: string; title: string } & Outcome & Pressure)[]
}

/** Writes `RESULTS.md`, `results.json` and the charts into a directory. */
export async function writeReport(directory: string, report: Report): Promise<void> {
  await mkdir(join(directory, 'charts'), { recursive: true })
  const machine = describeMachine()
  await writeFile(join(directory, 'results.json'), `${JSON.stringify({ ...machine, ...report }, null, 2)}\n`)
  const sections: string[] = []
  for (const { name, title, tables, courses = [], listings = [], notes = [], cpuPressure } of report.scenarios) {
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
  const head = [...headOf(report, machine), ...goalsOf(report)]
  await writeFile(join(directory, 'RESULTS.md'), `${[...head, ...sections].join('\n\n')}\n`)
}

const waited = (cpuPressure: number) =>
  `something that could have run waited for a processor ${format(cpuPressure)} % of the time`

function headOf({ quick, rounds, durability, waits, cpuPressure }: Report, machine: Machine): string[] {
  const settings = Object.entries(durability).map(([name, setting]) => `\`${name} = ${setting}\``)
  return [
    '# What was measured',
    `${machine.date}, ${machine.processors} × ${machine.model}, ${machine.memory} GiB of memory, Linux ${machine.kernel}, Node.js ${machine.node}. Postgres, the programs that are measured and what loads them share this machine.${quick ? ' **A quick run: everything once and small, to see that it works. The figures mean nothing.**' : ''}`,
    `As the server says: ${settings.join(', ')}.`,
    `While nothing else goes on, a round trip to Postgres takes ${shown(waits.roundTrip)}, and a row that is inserted and committed ${shown(waits.commit)}.`,
    `Contenders take turns, ${rounds} rounds unless a caption says otherwise. A figure is the median of its rounds, with the least and the greatest; a ratio is the median of the ratios within each round. \`npm run bench\` does it all again.`,
    ...(cpuPressure === undefined
      ? []
      : [
          `While it ran, ${waited(cpuPressure)} (\`/proc/pressure/cpu\`, some). What loads as much as it can makes much of that by itself; of two runs, the one with more was disturbed.`,
        ]),
  ]
}

const shown = ({ p50, p99 }: Waits['commit']) => `${format(p50)} ms (p99 ${format(p99)} ms)`

function goalsOf({ scenarios }: Report): string[] {
  const lines = scenarios.flatMap(({ name, title, goals }) =>
    goals.map(({ goal, measured, ...one }) => [`[${name}](#${anchorOf(name, title)})`, goal, measured, verdictOn(one)]),
  )
  return lines.length > 0 ? ['## Goals', rowsOf([['scenario', 'goal', 'measured', ''], ...lines])] : []
}

function verdictOn({ isMet, why }: Pick<Goal, 'isMet' | 'why'>): string {
  if (isMet) return 'met'
  return why ? `**not met**: ${why}` : '**not met**'
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
  commit: execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: import.meta.dirname, encoding: 'utf8' }).trim(),
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
