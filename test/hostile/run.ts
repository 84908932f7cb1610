/** Runs the hostile traffic: `npm run test:hostile`. */
import { mkdir } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { runHostile } from './hostile.ts'
import { phases } from './phases/index.ts'
import { findingsOf, formatMib, formatResult, maxP99Ms, tableHead } from './report.ts'
import { startTarget } from './target.ts'

const shortScale = 0.15
const maxMemoryGrowth = 0.2
const warmUp = { scale: 0.1, requests: 1_000 }
const defaultRequests = 20_000

const width = Math.max(...phases.map(({ name }) => name.length)) + 2

const usage = `Usage: npm run test:hostile -- [options]

Starts a Postgres, an API with a heap of 512 MiB and a worker, and attacks the API with hostile traffic, in phases. All
traffic goes to the loopback address. Meanwhile, a bystander uses the API. Checks that the API does not end, answers no
5xx except documented 503s, loses no job, gives its memory back and logs little, and that the p99 of the bystander is
at most ${maxP99Ms} ms. Prints a table, and exits with code 1 if one of these does not hold.

The run takes about 9 minutes on a machine with two cores. The waits of the bystander say something about the API only
if the machine does nothing else: the phase 'nothing' shows that.

  --seed <number>       generate the same requests as another run
  --requests <number>   number of generated requests; default ${defaultRequests}
  --phase <name>        run one phase; may be repeated
  --short               run the short version of each phase
  --profile <directory> write a CPU profile of the API for each phase
  --help                print this help

Phases:
${phases.map(({ name, summary }) => `  ${name.padEnd(width)}${summary}`).join('\n')}`

function readArguments() {
  try {
    const { values } = parseArgs({
      options: {
        seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
        requests: { type: 'string', default: String(defaultRequests) },
        phase: { type: 'string', multiple: true },
        short: { type: 'boolean', default: false },
        profile: { type: 'string' },
        help: { type: 'boolean', default: false },
      },
    })
    const unknown = values.phase?.filter((name) => !phases.some((phase) => phase.name === name)) ?? []
    if (unknown.length > 0) throw new Error(`No such phase: ${unknown.join(', ')}`)
    for (const name of ['seed', 'requests'] as const) {
      if (!/^\d+$/.test(values[name])) throw new Error(`--${name} must be a number`)
    }
    return values
  } catch (error) {
    console.error(`error: ${(error as Error).message}\nTo see all options, run: npm run test:hostile -- --help`)
    process.exit(2)
  }
}

async function run({ seed, requests, phase: names, short: isShort, profile }: ReturnType<typeof readArguments>) {
  console.log(`Seed: ${seed}`)
  if (profile) await mkdir(profile, { recursive: true })
  const target = await startTarget()
  const failed: string[] = []
  let isComplete = false
  try {
    await runHostile(target, {
      phases: phases.filter(({ name }) => names?.includes(name) ?? true),
      seed: Number(seed),
      requests: Number(requests),
      scale: isShort ? shortScale : 1,
      warmUp,
      maxMemoryGrowth,
      profileDirectory: profile,
      onBaseline: (bytes) => console.log(`${tableHead}\nused before the first phase: ${formatMib(bytes)} MiB`),
      onResult(result) {
        const findings = findingsOf(result)
        console.log(formatResult(result, findings))
        if (findings.length > 0) failed.push(result.phase)
      },
    })
    isComplete = true
  } finally {
    const keepLogs = failed.length > 0 || !isComplete
    await target.close({ keepLogs })
    if (keepLogs) console.error(`Failed: ${failed.join(', ') || 'the run itself'}. Logs: ${target.directory}`)
  }
  return failed.length === 0
}

const options = readArguments()
if (options.help) console.log(usage)
else process.exitCode = (await run(options)) ? 0 : 1
