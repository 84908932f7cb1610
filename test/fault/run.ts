/** Runs the fault matrix: `npm run test:fault`. */
import { parseArgs } from 'node:util'
import { controls } from './controls.ts'
import { openMatrix } from './matrix.ts'
import { formatControlResult, formatResult, hasPassed, isExposed } from './report.ts'
import type { Row } from './row.ts'
import { rows } from './rows/index.ts'

/** A row or a control, as the usage shows it. */
interface Listed {
  name: string
  summary: string
}

const maxUsageColumns = 100

/** Formats names as indented lines. */
function wrapNames(entries: readonly Listed[]): string {
  const lines: string[] = []
  for (const { name } of entries) {
    const last = lines.at(-1)
    if (last && last.length + name.length < maxUsageColumns) lines[lines.length - 1] = `${last}, ${name}`
    else lines.push(name)
  }
  return lines.map((line) => `  ${line}`).join(',\n')
}

const usage = `Usage: npm run test:fault -- [options]

Runs the fault matrix. Each row starts API processes and workers, sends requests, causes a fault, and then checks that
no acknowledged job is lost and that every effect happens once. Each control runs a row without one of the guards in
the sources, and the checker must find the violation. Prints one line per row or control. Exits with code 1 if one of
them fails.

The whole matrix takes 19 minutes on a machine with two cores. A row takes between a few seconds and some minutes.
disk-full needs root. clock-skew, pg-dump and the pgbouncer rows install a missing Debian package, which needs root too.

  --short          run the short version of each row, with fewer faults
  --row <name>     run one row or control; may be repeated
  --list           list the rows and controls: the fault of each, and what must hold
  --help           print this help

Rows:
${wrapNames(rows)}

Controls:
${wrapNames(controls)}`

function readArguments() {
  try {
    const { values } = parseArgs({
      options: {
        row: { type: 'string', multiple: true },
        short: { type: 'boolean', default: false },
        list: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    })
    const names = [...rows, ...controls].map(({ name }) => name)
    const unknown = values.row?.filter((name) => !names.includes(name)) ?? []
    if (unknown.length > 0) throw new Error(`No such row or control: ${unknown.join(', ')}`)
    return values
  } catch (error) {
    const help = 'To see all options and rows, run: npm run test:fault -- --help'
    console.error(`error: ${(error as Error).message}\n${help}`)
    process.exit(2)
  }
}

function list(title: string, entries: readonly Listed[]): void {
  const width = Math.max(...[...rows, ...controls].map(({ name }) => name.length)) + 2
  console.log(title)
  for (const { name, summary } of entries) console.log(`  ${name.padEnd(width)}${summary}`)
}

/** Runs a row or a control, prints its result, and returns whether it passed. */
async function runNamed(name: string, run: () => Promise<{ isOk: boolean; text: string }>): Promise<boolean> {
  console.error(`· ${name}: started`)
  const startedAt = performance.now()
  // A row that throws has failed. The next rows still run.
  const { isOk, text } = await run().catch((error) => ({ isOk: false, text: `FAIL ${name}\n       ${error.stack}` }))
  console.log(text)
  console.error(`  ${name}: finished in ${Math.round((performance.now() - startedAt) / 1000)} s`)
  return isOk
}

/** Runs the selected rows, and then the selected controls. Returns whether all of them passed. */
async function runMatrix({ row: selectedNames, short: isShort }: ReturnType<typeof readArguments>): Promise<boolean> {
  const isSelected = ({ name }: Listed) => selectedNames?.includes(name) ?? true
  const matrix = await openMatrix(isShort)
  const failed: string[] = []
  const runInOrder = async (selected: readonly Row[]) => {
    for (const row of selected) {
      const isOk = await runNamed(row.name, async () => {
        const result = await matrix.run(row)
        return { isOk: hasPassed(result), text: formatResult(result) }
      })
      if (!isOk) failed.push(row.name)
    }
  }
  try {
    const selected = rows.filter(isSelected)
    await Promise.all([
      runInOrder(selected.filter(({ isMostlyWaiting }) => !isMostlyWaiting)),
      runInOrder(selected.filter(({ isMostlyWaiting }) => isMostlyWaiting)),
    ])
    for (const control of controls.filter(isSelected)) {
      const isOk = await runNamed(control.name, async () => {
        const result = await matrix.runControl(control)
        return { isOk: isExposed(control, result), text: formatControlResult(control, result) }
      })
      if (!isOk) failed.push(control.name)
    }
  } finally {
    await matrix.close({ keepLogs: failed.length > 0 })
    if (failed.length > 0) console.error(`Failed: ${failed.join(', ')}. Journals and logs: ${matrix.directory}`)
  }
  return failed.length === 0
}

const options = readArguments()
if (options.help) console.log(usage)
else if (options.list) {
  list('Rows: a fault, and what must hold', rows)
  list('\nControls: a guard is removed, and the checker must find the violation', controls)
} else process.exitCode = (await runMatrix(options)) ? 0 : 1
