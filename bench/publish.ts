/** Writes bench/RESULTS.md and bench/charts from the results of earlier runs. Does not measure anything. */
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { parseOrExit } from './core/command-line.ts'
import { mergeRun, type Run, readRuns, writeReport } from './core/report.ts'
import { scenarios } from './scenarios/index.ts'

const usage = `Usage: npm run bench:publish -- [results.json]…

Writes bench/RESULTS.md and bench/charts from results files (default bench/out/results.json). If several files have a
result of the same scenario, the last of these files counts. Fails unless every scenario has a result from a full run.

  --help           print this help`

const files = parseOrExit('bench:publish', usage, () => {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { help: { type: 'boolean', default: false } },
  })
  if (values.help) return undefined
  return positionals.length > 0
    ? positionals.map((file) => resolve(file))
    : [join(import.meta.dirname, 'out/results.json')]
})

let runs: Run[] = []
for (const file of files) {
  for (const run of await readRuns(file)) if (!run.quick) runs = mergeRun(runs, run)
}
const measured = new Set(runs.flatMap((run) => run.scenarios.map(({ name }) => name)))
const missing = scenarios.filter(({ name }) => !measured.has(name)).map(({ name }) => name)
if (missing.length > 0) {
  const commands = missing.map((name) => `--only ${name}`).join(' ')
  console.error(`error: No full run of ${missing.join(', ')} in ${files.join(', ')}. Run: npm run bench -- ${commands}`)
  process.exit(1)
}
await writeReport(import.meta.dirname, runs)
console.log(`Report: ${join(import.meta.dirname, 'RESULTS.md')}`)
