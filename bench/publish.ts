/** Writes bench/RESULTS.md and bench/charts from results of earlier runs, without measuring anything. */
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { mergeRun, type Run, readRuns, writeReport } from './core/report.ts'
import { scenarios } from './scenarios/index.ts'

const usage = `Usage: npm run bench:publish -- [results.json]…

Writes bench/RESULTS.md and bench/charts from results files (default bench/out/results.json). Of two results of a
scenario, the one in the later file counts. Refuses unless every scenario has a result.`

function readArguments() {
  try {
    return parseArgs({ allowPositionals: true, options: { help: { type: 'boolean', default: false } } })
  } catch (error) {
    console.error(`error: ${(error as Error).message}\n\n${usage}`)
    process.exit(1)
  }
}

const { values, positionals } = readArguments()
if (values.help) {
  console.log(usage)
  process.exit()
}
const files = positionals.map((file) => resolve(file))
if (files.length === 0) files.push(join(import.meta.dirname, 'out/results.json'))

let runs: Run[] = []
for (const file of files) {
  for (const run of await readRuns(file)) if (!run.quick) runs = mergeRun(runs, run)
}
const measured = new Set(runs.flatMap((run) => run.scenarios.map(({ name }) => name)))
const missing = scenarios.filter(({ name }) => !measured.has(name)).map(({ name }) => name)
if (missing.length > 0) {
  const scenarioNames = missing.join(', ')
  console.error(`error: no results for ${scenarioNames} in ${files.join(', ')} (quick runs do not count)\n\n${usage}`)
  process.exit(1)
}
await writeReport(import.meta.dirname, runs)
console.log(`Report: ${join(import.meta.dirname, 'RESULTS.md')}`)
