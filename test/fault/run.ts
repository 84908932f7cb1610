/**
 * Runs the fault matrix: `npm run test:fault -- [--short] [--row <name>]… [--list]`. Prints one line per row. Exits 1
 * when a row finds a violation, or when a control finds none.
 */
import { parseArgs } from 'node:util'
import { controls } from './controls.ts'
import { openMatrix } from './matrix.ts'
import { formatControlResult, formatResult, hasPassed, isExposed } from './report.ts'
import type { Row } from './row.ts'
import { rows } from './rows/index.ts'

const { values } = parseArgs({
  options: {
    row: { type: 'string', multiple: true },
    short: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
  },
})

interface Listed {
  name: string
  summary: string
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
  // A row that throws has failed; the rows after it run all the same.
  const { isOk, text } = await run().catch((error) => ({ isOk: false, text: `FAIL ${name}\n       ${error.stack}` }))
  console.log(text)
  console.error(`  ${name}: finished in ${Math.round((performance.now() - startedAt) / 1000)} s`)
  return isOk
}

async function run(): Promise<number> {
  const names = [...rows, ...controls].map(({ name }) => name)
  const unknown = values.row?.filter((name) => !names.includes(name)) ?? []
  if (unknown.length > 0) {
    console.error(`error: No such row: ${unknown.join(', ')}. --list shows all rows.`)
    return 1
  }
  if (values.list) {
    list('Rows: a fault, and what must hold', rows)
    list('\nControls: a guard is removed, and the checker must find the violation', controls)
    return 0
  }
  const isSelected = ({ name }: Listed) => values.row?.includes(name) ?? true
  const matrix = await openMatrix(values.short)
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
  return failed.length === 0 ? 0 : 1
}

process.exitCode = await run()
