/**
 * Runs the scenarios: `npm run bench -- [--quick] [--only S1]… [--rounds 5] [--out bench]`. Writes RESULTS.md,
 * results.json and a chart for each scenario.
 */
import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { stopProcesses } from './core/process.ts'
import { type Report, writeReport } from './core/report.ts'
import { startServer } from './core/server.ts'
import { scenarios } from './scenarios/index.ts'

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string', multiple: true },
    rounds: { type: 'string' },
    out: { type: 'string' },
  },
})

async function run(): Promise<number> {
  const unknown = values.only?.filter((name) => !scenarios.some((one) => one.name === name)) ?? []
  if (unknown.length > 0) {
    console.error(`error: There is no scenario ${unknown.join(', ')}: ${scenarios.map(({ name }) => name).join(', ')}`)
    return 1
  }
  const rounds = values.rounds === undefined ? (values.quick ? 1 : 5) : Number(values.rounds)
  if (!Number.isInteger(rounds) || rounds < 1) {
    console.error('error: --rounds must be an integer of at least 1')
    return 1
  }
  const directory = await mkdtemp(join(tmpdir(), 'accepted-bench-'))
  // As root, Postgres runs as another user, who must come in.
  await chmod(directory, 0o755)
  const server = await startServer(join(directory, 'server'), join(import.meta.dirname, 'app/migrations'))
  const report: Report = { quick: values.quick, rounds, durability: await server.durability(), scenarios: [] }
  const begun = performance.now()
  const say = (text: string) =>
    console.error(`${String(Math.round((performance.now() - begun) / 1000)).padStart(5)} s  ${text}`)
  let failed = false
  try {
    for (const { name, title, run } of scenarios.filter(({ name }) => values.only?.includes(name) ?? true)) {
      say(`${name} ${title}`)
      const within = join(directory, name)
      await mkdir(within)
      try {
        const outcome = await run({
          ...{ server, quick: values.quick, rounds, directory: within },
          say: (text) => say(`${name} · ${text}`),
        })
        report.scenarios.push({ name, title, ...outcome })
        for (const { goal, measured, isMet } of outcome.goals)
          say(`${name} · ${isMet ? 'met' : 'NOT MET'}: ${goal}: ${measured}`)
      } catch (error) {
        failed = true
        console.error(`error: ${name} could not be measured: ${(error as Error).stack}`)
      } finally {
        await stopProcesses()
      }
    }
  } finally {
    await server.stop()
  }
  const out = resolve(values.out ?? (values.quick ? join(directory, 'report') : import.meta.dirname))
  await writeReport(out, report)
  console.log(`The report is in ${join(out, 'RESULTS.md')}.`)
  if (!failed && !out.startsWith(directory)) await rm(directory, { recursive: true, force: true })
  return failed ? 1 : 0
}

process.exitCode = await run()
