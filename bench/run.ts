/** Runs the scenarios and writes a report. */
import { cp, mkdir, readdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { bundleDependencies } from '../test/support/bundles.ts'
import { measureBaselineLatency } from './core/baseline-latency.ts'
import { parseOrExit } from './core/command-line.ts'
import { describeGoal } from './core/goal.ts'
import { describeMachine } from './core/machine.ts'
import { startPressure } from './core/pressure.ts'
import { cacheDirectory, stopProcesses } from './core/process.ts'
import { log } from './core/progress.ts'
import { mergeRun, type Run, readRuns, writeReport, writeRuns } from './core/report.ts'
import type { Bench, Scenario } from './core/scenario.ts'
import { startServer } from './core/server.ts'
import { withWorkspace } from './core/workspace.ts'
import { scenarios } from './scenarios/index.ts'

const scenarioNames = scenarios.map(({ name }) => name).join(', ')

const usage = `Usage: npm run bench -- [options]

Measures the scenarios and writes a report. The report keeps earlier results of the scenarios that this run does not
measure. Measuring all scenarios takes hours. S12 and S19 take an hour each.
\`npm run bench:publish\` writes a complete report to bench/RESULTS.md.

  --quick          run each scenario once and briefly, to check that it works; the figures mean nothing
  --only <name>    run one scenario; may be repeated. One of ${scenarioNames}
  --rounds <n>     how often each contender is measured; default 5, or 1 with --quick
  --soak <min>     duration of S12 in minutes; default 60, or 0.05 with --quick
  --out <dir>      directory of the report; default bench/out, or bench/out/quick with --quick
  --help           print this help`

const defaultSoakMinutes = 60
const quickSoakMinutes = 0.05

function parseArguments() {
  const { values } = parseArgs({
    options: {
      quick: { type: 'boolean', default: false },
      only: { type: 'string', multiple: true },
      rounds: { type: 'string' },
      soak: { type: 'string' },
      out: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  })
  const { quick, only, help } = values
  if (help) return undefined
  const unknown = only?.filter((name) => !scenarios.some((one) => one.name === name)) ?? []
  if (unknown.length > 0) throw new Error(`No such scenario: ${unknown.join(', ')}. Choose from ${scenarioNames}`)
  const rounds = Number(values.rounds ?? (quick ? 1 : 5))
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error('--rounds must be an integer of at least 1')
  const soakMinutes = Number(values.soak ?? (quick ? quickSoakMinutes : defaultSoakMinutes))
  if (!(soakMinutes > 0)) throw new Error('--soak must be a number of minutes above 0')
  const out = resolve(values.out ?? join(import.meta.dirname, quick ? 'out/quick' : 'out'))
  const selected = scenarios.filter(({ name }) => only?.includes(name) ?? true)
  return { quick, rounds, soakMinutes, out, selected }
}

type Arguments = NonNullable<ReturnType<typeof parseArguments>>

/** Measures the selected scenarios. Returns true if all of them succeeded. */
async function run({ quick, rounds, soakMinutes, out, selected }: Arguments): Promise<boolean> {
  // Reads the commit before the measurements, because files may change during the run.
  const machine = describeMachine()
  const earlier = await readRuns(join(out, 'results.json'))
  await mkdir(out, { recursive: true })
  // Most of a quick run is the start of processes. They inherit the variable.
  if (quick) process.env.NODE_OPTIONS = `--import=${await bundleDependencies(cacheDirectory)}`
  return withWorkspace(async ({ directory, onClose }) => {
    const server = await startServer(join(directory, 'server'), join(import.meta.dirname, 'app/migrations'))
    onClose(() => server.stop())
    onClose(stopProcesses)
    const pressure = startPressure()
    const baseline = await measureBaselineLatency(server)
    const durability = await server.durability()
    const run: Run = { ...machine, quick, rounds, durability, baseline, scenarios: [] }
    const failed: string[] = []
    for (const scenario of selected) {
      const scenarioDirectory = join(directory, scenario.name)
      await mkdir(scenarioDirectory)
      try {
        const bench = { server, baseline, quick, rounds, soakMinutes, directory: scenarioDirectory, onClose }
        run.scenarios.push(await measure(scenario, bench))
        const runs = mergeRun(earlier, { ...run, ...pressure() })
        await writeRuns(join(out, 'results.json'), runs)
        await writeReport(out, runs)
      } catch (error) {
        failed.push(scenario.name)
        const logs = join(out, 'logs', scenario.name)
        await keepLogs(scenarioDirectory, logs)
        console.error(`error: ${scenario.name} failed: ${(error as Error).stack}`)
        console.error(`The logs of its processes are in ${logs}. The remaining scenarios still run.`)
      } finally {
        await stopProcesses()
      }
    }
    if (run.scenarios.length > 0) {
      const warning = quick ? ' (quick run: the figures mean nothing)' : ''
      console.log(`Report: ${join(out, 'RESULTS.md')}${warning}`)
    }
    if (failed.length > 0) console.error(`error: Scenarios without a result: ${failed.join(', ')}`)
    return failed.length === 0
  })
}

async function measure(scenario: Scenario, bench: Omit<Bench, 'log'>) {
  const { name, title } = scenario
  log(`${name} ${title}`)
  const pressure = startPressure()
  const result = await scenario.run({ ...bench, log: (text) => log(`${name} · ${text}`) })
  // The goals do not apply to a quick run.
  for (const goal of bench.quick ? [] : result.goals) {
    log(`${name} · ${goal.isMet ? 'met' : 'MISSED'} · ${describeGoal(goal)}`)
  }
  return { name, title, ...result, ...pressure() }
}

async function keepLogs(from: string, to: string): Promise<void> {
  for (const name of await readdir(from)) if (name.endsWith('.log')) await cp(join(from, name), join(to, name))
}

process.exitCode = (await run(parseOrExit('bench', usage, parseArguments))) ? 0 : 1
