/**
 * Compares this checkout with another checkout. Each checkout runs its own API, worker and migrations on its own
 * Postgres. The checkouts take turns within one run: on a shared machine, two separate runs of the same code differ by
 * more than most changes do.
 *
 * The other checkout may be an older commit. To stay compatible with it, do not rename the exports that `modules`
 * loads, the fields of their loads, or their metrics.
 */
import { mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { parseOrExit } from './core/command-line.ts'
import { format } from './core/format.ts'
import { log } from './core/progress.ts'
import {
  type Bench,
  type Contender,
  describeSample,
  type Metric,
  type OpenContender,
  warmUp,
  withContenders,
} from './core/scenario.ts'
import type { Sample } from './core/series.ts'
import { median } from './core/stats.ts'
import { type Workspace, withWorkspace } from './core/workspace.ts'

/** Loads the modules of a checkout's bench that run its migrations, start its API and worker, and measure them. */
async function modules(root: string) {
  const load = <Module>(path: string): Promise<Module> => import(pathToFileURL(join(root, 'bench', path)).href)
  return {
    server: await load<typeof import('./core/server.ts')>('core/server.ts'),
    process: await load<typeof import('./core/process.ts')>('core/process.ts'),
    http: await load<typeof import('./contenders/http.ts')>('contenders/http.ts'),
    httpPgbench: await load<typeof import('./contenders/http-pgbench.ts')>('contenders/http-pgbench.ts'),
    drain: await load<typeof import('./contenders/drain-accepted.ts')>('contenders/drain-accepted.ts'),
    drainPgbench: await load<typeof import('./contenders/drain-pgbench.ts')>('contenders/drain-pgbench.ts'),
    pickup: await load<typeof import('./contenders/pickup-accepted.ts')>('contenders/pickup-accepted.ts'),
    postToEvent: await load<typeof import('./contenders/post-to-event.ts')>('contenders/post-to-event.ts'),
  }
}

type Modules = Awaited<ReturnType<typeof modules>>

interface Side {
  modules: Modules
  bench: Bench
}

/** This checkout and the other checkout. */
interface Sides {
  ours: Side
  theirs: Side
}

/** The figures of one contender, measured with the code of each checkout. There is one sample per round. */
interface Compared {
  title: string
  metrics: readonly Metric[]
  ours: readonly Sample[]
  theirs: readonly Sample[]
}

/** The work that both checkouts do in turns. */
interface Turns<Work> {
  title: string
  metrics: readonly Metric[]
  contenders(modules: Modules): readonly Contender<Work>[]
  /** Runs once per round, with the SQL of the other checkout. A wide spread means that the machine was not steady. */
  reference?(modules: Modules): Contender<Work>
  work: Work
  /** Runs before the measurement, so that V8 compiles the code. A quick run skips it. */
  warmUp: Work
}

async function takeTurns<Work>({ ours, theirs }: Sides, turns: Turns<Work>): Promise<Compared[]> {
  const theirContenders = turns.contenders(theirs.modules)
  const pairs = turns.contenders(ours.modules).map((own, index) => {
    return [on(ours, own), on(theirs, theirContenders[index] as Contender<Work>)] as const
  })
  const reference = turns.reference && on(theirs, turns.reference(theirs.modules))
  const all = [...pairs.flat(), ...(reference ? [reference] : [])]
  return withContenders(ours.bench, all, async (opened) => {
    const { quick, rounds } = ours.bench
    if (!quick) for (const one of opened) await one.opened.measure(turns.warmUp)
    const samples = opened.map((): Sample[] => [])
    for (let round = 1; round <= rounds; round++) {
      for (const index of order(pairs.length, round, opened.length)) {
        const { name, opened: contender } = opened[index] as { name: string; opened: OpenContender<Work> }
        const sample = await contender.measure(turns.work)
        samples[index]?.push(sample)
        const side = index === pairs.length * 2 ? 'reference' : index % 2 === 0 ? 'this' : 'other'
        log(
          `${turns.title} · round ${round} of ${rounds} · ${name}, ${side} · ${describeSample(sample, turns.metrics)}`,
        )
      }
    }
    const { metrics, title } = turns
    const compared = pairs.map(([{ name }], index) => ({
      title: `${title}, ${name}`,
      metrics,
      ours: samples[index * 2] as Sample[],
      theirs: samples[index * 2 + 1] as Sample[],
    }))
    if (!reference) return compared
    const theirs = samples.at(-1) as Sample[]
    return [...compared, { title: `${title}, ${reference.name} (reference)`, metrics, ours: [], theirs }]
  })
}

/** Orders a round. The contenders of a pair run one after the other and swap every round. The reference runs last. */
function order(pairs: number, round: number, all: number): number[] {
  const inPairs = Array.from({ length: pairs }, (_, pair) => {
    const [own, other] = [pair * 2, pair * 2 + 1]
    return (round + pair) % 2 === 0 ? [own, other] : [other, own]
  }).flat()
  return all > pairs * 2 ? [...inPairs, all - 1] : inPairs
}

/** Makes a contender use the Postgres and the directory of its side. */
const on = <Work>({ bench }: Side, { name, open }: Contender<Work>): Contender<Work> => ({
  name,
  open: () => open(bench),
})

const throughput = (unit: 'request' | 'job'): Metric[] => [
  { name: 'perSecond', label: `${unit}s/s` },
  { name: 'p50', label: 'p50 (ms)' },
  { name: 'p99', label: 'p99 (ms)' },
  { name: 'walBytes', label: `WAL bytes/${unit}` },
  { name: 'postgresCpu', label: `Postgres CPU (µs/${unit})` },
  { name: 'processCpu', label: `process CPU (µs/${unit})` },
]

const latency: Metric[] = [
  { name: 'p50', label: 'p50 (ms)' },
  { name: 'p99', label: 'p99 (ms)' },
]

/** Each comparison uses the load of the scenario of the same name. */
const scenarios: Readonly<Record<string, (sides: Sides, quick: boolean) => Promise<Compared[]>>> = {
  async S1(sides, quick) {
    const compared: Compared[] = []
    for (const connections of quick ? [256] : [1, 64, 256]) {
      const turns = {
        title: `S1 accepts, ${connections} connections`,
        metrics: throughput('request'),
        contenders: ({ http }: Modules) => [http.ours],
        reference: ({ httpPgbench }: Modules) => httpPgbench.floor,
        work: { connections, seconds: quick ? 1 : 5 },
        warmUp: { connections, seconds: 3 },
      }
      compared.push(...(await takeTurns(sides, turns)))
    }
    return compared
  },
  S3: (sides, quick) => {
    const load = quick ? { jobs: 2_000, atMostSeconds: 2 } : { jobs: 50_000, atMostSeconds: 60 }
    return takeTurns(sides, {
      title: 'S3 drain',
      metrics: throughput('job'),
      contenders: ({ drain }) => [drain.acceptedNoop, drain.acceptedTuned, drain.acceptedPerform],
      reference: ({ drainPgbench }) => drainPgbench.floor,
      work: load,
      warmUp: { ...load, jobs: load.jobs / 5 },
    })
  },
  S5: (sides, quick) =>
    takeTurns(sides, {
      title: 'S5 pickup',
      metrics: latency,
      contenders: ({ pickup }) => [pickup.settling, pickup.performing],
      work: { perSecond: 100, seconds: quick ? 1 : 20 },
      warmUp,
    }),
  S6: (sides, quick) =>
    takeTurns(sides, {
      title: 'S6 POST to event',
      metrics: latency,
      contenders: ({ postToEvent }) => [postToEvent.postToEvent],
      work: { perSecond: 20, seconds: quick ? 1.5 : 30 },
      warmUp,
    }),
}

/** Starts a Postgres for a checkout. Its databases get the migrations of that checkout. */
async function startSide(
  root: string,
  { directory, onClose }: Workspace,
  { quick, rounds }: { quick: boolean; rounds: number },
): Promise<Side> {
  const loaded = await modules(root)
  await mkdir(directory)
  const server = await loaded.server.startServer(join(directory, 'server'), join(root, 'bench/app/migrations'))
  onClose(() => server.stop())
  onClose(loaded.process.stopProcesses)
  // The compared contenders do not read the baseline.
  const percentiles = { p50: Number.NaN, p99: Number.NaN }
  const baseline = { roundTrip: percentiles, commit: percentiles }
  return { modules: loaded, bench: { server, baseline, quick, rounds, soakMinutes: 0, directory, log, onClose } }
}

function report(compared: readonly Compared[]): string {
  const rows = compared.flatMap(({ title, metrics, ours, theirs }) =>
    metrics.flatMap(({ name, label }) => {
      const valuesOf = (samples: readonly Sample[]) => samples.flatMap((sample) => sample[name] ?? [])
      const [own, other] = [valuesOf(ours), valuesOf(theirs)]
      if (other.length === 0) return []
      const ratios = own.map((value, round) => value / (other[round] as number))
      const cells = [title, label, withSpread(own), withSpread(other), withSpread(ratios)]
      return `| ${cells.join(' | ')} |`
    }),
  )
  return [
    '| scenario | metric | this checkout | other checkout | this ÷ other |',
    '| --- | --- | --- | --- | --- |',
    ...rows,
  ].join('\n')
}

function withSpread(values: readonly number[]): string {
  if (values.length === 0) return ''
  const spread = values.length > 1 ? ` (${format(Math.min(...values))} – ${format(Math.max(...values))})` : ''
  return `${format(median(values))}${spread}`
}

const scenarioNames = Object.keys(scenarios)

const usage = `Usage: npm run bench:compare -- <directory of another checkout> [options]

Runs scenarios with the code of this checkout and of another checkout, in turns. Prints the ratio of their figures.
Run \`npm ci\` in the other checkout first. All scenarios with five rounds take 25 minutes.

  --only <name>    compare one scenario; may be repeated. One of ${scenarioNames.join(', ')}
  --rounds <n>     how often each checkout is measured; default 5, or 1 with --quick
  --quick          run each scenario once and briefly, to check that it works; the figures mean nothing
  --help           print this help`

function parseArguments() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      only: { type: 'string', multiple: true, default: scenarioNames },
      rounds: { type: 'string' },
      quick: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  const { only, quick, help } = values
  if (help) return undefined
  const [other, ...surplus] = positionals
  if (!other || surplus.length > 0) throw new Error('Give exactly one argument: the directory of the other checkout')
  const unknown = only.filter((name) => !scenarioNames.includes(name))
  if (unknown.length > 0)
    throw new Error(`Cannot compare ${unknown.join(', ')}. Choose from ${scenarioNames.join(', ')}`)
  const rounds = Number(values.rounds ?? (quick ? 1 : 5))
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error('--rounds must be an integer of at least 1')
  return { other: resolve(other), only, rounds, quick }
}

const { other, only, rounds, quick } = parseOrExit('bench:compare', usage, parseArguments)

await withWorkspace(async ({ directory, onClose }) => {
  const start = (root: string, name: string) =>
    startSide(root, { directory: join(directory, name), onClose }, { quick, rounds })
  const sides = {
    ours: await start(resolve(import.meta.dirname, '..'), 'this'),
    theirs: await start(other, 'other'),
  }
  const compared: Compared[] = []
  for (const [name, run] of Object.entries(scenarios)) {
    if (only.includes(name)) compared.push(...(await run(sides, quick)))
  }
  console.log(report(compared))
  console.log(
    `\nRounds: ${rounds}. A cell shows the median (lowest – highest) of the rounds. A ratio divides the figures of one round.`,
  )
})
