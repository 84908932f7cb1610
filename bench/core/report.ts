import { execFileSync } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { cpus, release, totalmem } from 'node:os'
import { join } from 'node:path'
import { drawBars } from './chart.ts'
import { format, type Outcome, type Table } from './scenario.ts'
import { median } from './stats.ts'

/** What was measured, of all scenarios. */
export interface Report {
  quick: boolean
  rounds: number
  durability: Readonly<Record<string, string>>
  scenarios: ({ name: string; title: string } & Outcome)[]
}

/** Writes `RESULTS.md`, `results.json` and a chart for each table into a directory. */
export async function writeReport(directory: string, report: Report): Promise<void> {
  await mkdir(join(directory, 'charts'), { recursive: true })
  const machine = describeMachine()
  await writeFile(join(directory, 'results.json'), `${JSON.stringify({ ...machine, ...report }, null, 2)}\n`)
  const sections: string[] = []
  for (const { name, title, tables, goals, notes = [] } of report.scenarios) {
    sections.push(`## ${name}: ${title}`)
    if (goals.length > 0) {
      sections.push(
        rowsOf([
          ['goal', 'measured', ''],
          ...goals.map(({ goal, measured, isMet, why }) => [
            goal,
            measured,
            isMet ? 'met' : `**not met**: ${why ?? ''}`,
          ]),
        ]),
      )
    }
    for (const [index, table] of tables.entries()) {
      const chart = `charts/${name.toLowerCase()}-${index + 1}.svg`
      await writeFile(join(directory, chart), drawBars(table))
      sections.push(`${table.caption}\n\n![${table.caption}](${chart})`, figuresOf(table))
    }
    sections.push(...notes)
  }
  await writeFile(join(directory, 'RESULTS.md'), `${[...headOf(report, machine), ...sections].join('\n\n')}\n`)
}

function headOf({ quick, rounds, durability }: Report, machine: Machine): string[] {
  const settings = Object.entries(durability).map(([name, setting]) => `\`${name} = ${setting}\``)
  return [
    '# What was measured',
    `${machine.date}, ${machine.processors} × ${machine.model}, ${machine.memory} GiB of memory, Linux ${machine.kernel}, Node.js ${machine.node}. Postgres, the programs that are measured and what loads them share this machine.${quick ? ' **A quick run: everything once and small, to see that it works. The figures mean nothing.**' : ''}`,
    `As the server says: ${settings.join(', ')}.`,
    `Contenders take turns, ${rounds} rounds. A figure is the median of its rounds, with the least and the greatest; a ratio is the median of the ratios within each round. \`npm run bench\` does it all again.`,
  ]
}

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

const rowsOf = ([head = [], ...lines]: readonly (readonly string[])[]) =>
  [head, head.map(() => '---'), ...lines].map((cells) => `| ${cells.join(' | ')} |`).join('\n')
