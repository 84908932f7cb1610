/** Runs the scenarios, and writes RESULTS.md, results.json and the charts. */
import { chmod, cp, mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { startPressure } from './core/pressure.ts'
import { stopProcesses } from './core/process.ts'
import { createReporter, type Run } from './core/report.ts'
import type { Bench, Scenario } from './core/scenario.ts'
import { startServer } from './core/server.ts'
import { measureWaits } from './core/waits.ts'
import { scenarios } from './scenarios/index.ts'

const usage = 'npm run bench -- [--quick] [--only S1]… [--rounds 5] [--soak 60] [--out bench]'

function readArguments() {
  try {
    return parseArgs({
      options: {
        quick: { type: 'boolean', default: false },
        only: { type: 'string', multiple: true },
        rounds: { type: 'string' },
        soak: { type: 'string' },
        out: { type: 'string' },
      },
    })
  } catch (error) {
    console.error(`error: ${(error as Error).message}\nUsage: ${usage}`)
    process.exit(1)
  }
}

const { values } = readArguments()

const begun = performance.now()
const say = (text: string) =>
  console.error(`${String(Math.round((performance.now() - begun) / 1000)).padStart(5)} s  ${text}`)

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
  const soakMinutes = values.soak === undefined ? (values.quick ? 0.05 : 60) : Number(values.soak)
  if (!(soakMinutes > 0)) {
    console.error('error: --soak must be a number of minutes above 0')
    return 1
  }
  const out = await openOut()
  const reporter = await createReporter(out)
  const isWhole = await withServer(async (server, directory) => {
    const pressure = startPressure()
    const waits = await measureWaits(server)
    const durability = await server.durability()
    const run: Run = { quick: values.quick, rounds, durability, waits, scenarios: [] }
    let isWhole = true
    for (const scenario of scenarios.filter(({ name }) => values.only?.includes(name) ?? true)) {
      const within = join(directory, scenario.name)
      await mkdir(within)
      const bench = { server, waits, quick: values.quick, rounds, soakMinutes, directory: within }
      try {
        run.scenarios.push(await measure(scenario, bench))
        await reporter.write({ ...run, ...pressure() })
      } catch (error) {
        isWhole = false
        const logs = join(out, 'logs', scenario.name)
        await keepLogs(within, logs)
        console.error(`error: ${scenario.name} could not be measured: ${(error as Error).stack}`)
        console.error(`What its processes have said is in ${logs}.`)
      } finally {
        await stopProcesses()
      }
    }
    if (run.scenarios.length > 0) console.log(`The report is in ${join(out, 'RESULTS.md')}.`)
    return isWhole
  })
  return isWhole ? 0 : 1
}

/** The figures of a quick run mean nothing, and do not replace those that do. */
async function openOut(): Promise<string> {
  if (values.out !== undefined) return resolve(values.out)
  return values.quick ? mkdtemp(join(tmpdir(), 'accepted-bench-report-')) : import.meta.dirname
}

async function measure(scenario: Scenario, bench: Omit<Bench, 'say'>) {
  const { name, title } = scenario
  say(`${name} ${title}`)
  const pressure = startPressure()
  const outcome = await scenario.run({ ...bench, say: (text) => say(`${name} · ${text}`) })
  for (const { goal, measured, isMet } of outcome.goals)
    say(`${name} · ${isMet ? 'met' : 'NOT MET'}: ${goal}: ${measured}`)
  return { name, title, ...outcome, ...pressure() }
}

/** Starts the cluster in a directory of its own, and leaves nothing of it, also when it is interrupted. */
async function withServer<Result>(use: (server: Bench['server'], directory: string) => Promise<Result>) {
  const directory = await mkdtemp(join(tmpdir(), 'accepted-bench-'))
  let server: Bench['server'] | undefined
  const clear = async () => {
    await stopProcesses()
    await server?.stop()
    await rm(directory, { recursive: true, force: true })
  }
  const giveUp = async (why: Error | string) => {
    console.error(`error: ${typeof why === 'string' ? why : why.stack}`)
    // What fails while everything is taken down has been told by then.
    process.on('uncaughtException', () => {})
    await clear().finally(() => process.exit(1))
  }
  for (const event of ['SIGINT', 'SIGTERM', 'uncaughtException'] as const) process.once(event, giveUp)
  try {
    // As root, Postgres runs as another user, who must come in.
    await chmod(directory, 0o755)
    server = await startServer(join(directory, 'server'), join(import.meta.dirname, 'app/migrations'))
    return await use(server, directory)
  } finally {
    await clear()
  }
}

async function keepLogs(from: string, to: string): Promise<void> {
  for (const name of await readdir(from)) if (name.endsWith('.log')) await cp(join(from, name), join(to, name))
}

process.exitCode = await run()
