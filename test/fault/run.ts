/**
 * Runs the fault matrix: `npm run test:fault -- [--short] [--row name]… [--list]`. Prints one line of figures per row;
 * exits 1 when anything is lost, unexpected, duplicated, partial or of a wrong status, or when the checker does not see
 * that a guard is missing.
 */
import { parseArgs } from 'node:util'
import { controls, isExposed, printControl } from './controls.ts'
import { openMatrix } from './matrix.ts'
import { rows } from './rows/index.ts'
import { holds, print, type Row } from './stage.ts'

const { values } = parseArgs({
  options: {
    row: { type: 'string', multiple: true },
    short: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
  },
})

async function run(): Promise<number> {
  const all = [...rows, ...controls]
  const unknown = values.row?.filter((name) => !all.some((one) => one.name === name)) ?? []
  if (unknown.length > 0) {
    console.error(`error: There is no row ${unknown.join(', ')}; --list shows them.`)
    return 1
  }
  if (values.list) {
    for (const { name, summary } of all) console.log(`${name.padEnd(28)} ${summary}`)
    return 0
  }
  const isChosen = ({ name }: { name: string }) => values.row?.includes(name) ?? true
  const matrix = await openMatrix(values.short)
  const failed: string[] = []
  // What cannot even be played is told of, and the others are played.
  const attempt = async (name: string, play: () => Promise<boolean>) => {
    console.error(`· ${name} begins`)
    const begunAt = performance.now()
    const holds = await play().catch((error) => {
      console.log(`FAIL ${name}\n       ${error.stack}`)
      return false
    })
    console.error(`  ${name} took ${Math.round((performance.now() - begunAt) / 1000)} s`)
    if (!holds) failed.push(name)
  }
  const playAll = async (some: readonly Row[]) => {
    for (const row of some) {
      await attempt(row.name, async () => {
        const figures = await matrix.play(row)
        console.log(print(figures))
        return holds(figures)
      })
    }
  }
  try {
    const chosen = rows.filter(isChosen)
    await Promise.all([playAll(chosen.filter(({ waits }) => !waits)), playAll(chosen.filter(({ waits }) => waits))])
    for (const control of controls.filter(isChosen)) {
      await attempt(control.name, async () => {
        const figures = await matrix.playWithout(control)
        console.log(printControl(control, figures))
        return isExposed(control, figures)
      })
    }
  } finally {
    await matrix.close(failed.length === 0)
    if (failed.length > 0) console.error(`${failed.join(', ')}: the journals and logs are kept in ${matrix.directory}`)
  }
  return failed.length === 0 ? 0 : 1
}

process.exitCode = await run()
