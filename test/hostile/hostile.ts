import { fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Bystander, type Latency, startBystander } from './bystander.ts'
import type { AttackOptions, AttackReport, Phase } from './phase.ts'
import type { Target } from './target.ts'

/** What a phase did and what it cost. */
export interface PhaseResult extends AttackReport {
  phase: string
  seconds: number
  /** Of the bystander. */
  latencies: Latency[]
  /** The longest time that the event loop of the API was blocked. */
  maxBlockedMs: number
  peakRssBytes: number
  /** The memory of the API after the phase, with the garbage collected. */
  usedBytes: number
  rssBytes: number
  logBytes: number
}

export interface HostileOptions {
  phases: readonly Phase[]
  seed: number
  requests: number
  scale: number
  /** First runs each phase in this size, which loads and compiles code, and fills caches. Default: no such run. */
  warmUp?: { scale: number; requests: number }
  /** After a phase, the memory of the API may be larger than before the first phase by this share. */
  maxMemoryGrowth: number
  /** Called with the memory of the API in use before the first phase, and after a warm-up. */
  onBaseline?: (bytes: number) => void
  onResult?: (result: PhaseResult) => void
  /** Where to write a CPU profile of the API for each phase. */
  profileDirectory?: string | undefined
}

const settleTimeoutMs = 60_000
const samplePeriodMs = 50
/** Accepted jobs must have ended this long after their phase. */
const drainTimeoutMs = 180_000
/** At the level `info`, two lines a request are logged. */
const maxLogBytesPerRequest = 1_000
const maxOtherLogBytes = 300_000

/** Runs phases one after another against a target, while a bystander uses it. */
export async function runHostile(target: Target, options: HostileOptions): Promise<PhaseResult[]> {
  const bystander = startBystander(target.api.port)
  try {
    const knownIds = await findKnownIds(target)
    const attack = { port: target.api.port, seed: options.seed, knownIds }
    const { warmUp } = options
    if (warmUp) {
      for (const phase of options.phases) await runAttack(phase, { ...attack, ...warmUp, seed: options.seed - 1 })
    }
    await waitUntilDrained(target)
    const baselineBytes = await settledBytes(target)
    options.onBaseline?.(baselineBytes)
    const results: PhaseResult[] = []
    for (const phase of options.phases) {
      const { requests, scale } = options
      const result = await runPhase(
        phase,
        { target, bystander, baselineBytes, ...options },
        { ...attack, requests, scale },
      )
      results.push(result)
      options.onResult?.(result)
      if (target.api.ended()) break
    }
    return results
  } finally {
    await bystander.stop()
  }
}

interface PhaseContext extends HostileOptions {
  target: Target
  bystander: Bystander
  baselineBytes: number
}

async function runPhase(phase: Phase, context: PhaseContext, attack: AttackOptions): Promise<PhaseResult> {
  const { target, bystander, baselineBytes, profileDirectory } = context
  const { api } = target
  bystander.nameStep(phase.name)
  bystander.take()
  const logBytesBefore = api.logBytes()
  const rss = sampleRss(target)
  if (profileDirectory) await startProfile(context)
  const startedAt = performance.now()
  const report = await runAttack(phase, attack, (step) => bystander.nameStep(step))
  const seconds = (performance.now() - startedAt) / 1000
  if (profileDirectory) api.ask({ stopProfile: join(profileDirectory, `${phase.name}.cpuprofile`) })
  const { latencies, findings } = bystander.take()
  const peakRssBytes = rss.stop()
  const result = {
    ...report,
    phase: phase.name,
    seconds,
    latencies,
    peakRssBytes,
    logBytes: api.logBytes() - logBytesBefore,
  }
  result.findings.push(...findings.slice(0, 5))
  const ended = api.ended() ?? target.worker.ended()
  if (ended !== undefined) {
    result.findings.push(ended)
    return { ...result, maxBlockedMs: 0, usedBytes: 0, rssBytes: 0 }
  }
  const { maxBlockedMs } = await api.measure()
  result.findings.push(...(await findLostJobs(target, report.accepted)))
  const maxBytes = baselineBytes * (1 + context.maxMemoryGrowth)
  const usedBytes = await settledBytes(target, maxBytes)
  if (usedBytes > maxBytes) {
    result.findings.push(`The memory did not go back: ${usedBytes} bytes, ${baselineBytes} before`)
  }
  const maxLogBytes = report.sent * maxLogBytesPerRequest + maxOtherLogBytes
  if (result.logBytes > maxLogBytes)
    result.findings.push(`The log grew by ${result.logBytes} bytes, not ${maxLogBytes}`)
  return { ...result, maxBlockedMs, usedBytes, rssBytes: api.rssBytes() }
}

async function startProfile({ target, bystander }: PhaseContext): Promise<void> {
  target.api.ask({ startProfile: true })
  // Starting the profiler blocks the API for a while.
  await delay(3_000)
  await target.api.measure()
  bystander.take()
}

/** Runs a phase in a process of its own. */
async function runAttack(
  phase: Phase,
  options: AttackOptions,
  onStep: (step: string) => void = () => {},
): Promise<AttackReport> {
  const child = fork(join(import.meta.dirname, 'generator.ts'), {
    execArgv: ['--conditions=accepted-source', '--disable-warning=ExperimentalWarning'],
  })
  const failed = once(child, 'exit').then(([code, signal]) => {
    throw new Error(`The process of the attackers ended: ${signal ?? code}`)
  })
  failed.catch(() => {})
  const { promise: reported, resolve } = Promise.withResolvers<AttackReport>()
  child.on('message', (message: { step: string } | { report: AttackReport }) => {
    if ('report' in message) resolve(message.report)
    else onStep(message.step)
  })
  child.send({ name: phase.name, options })
  return Promise.race([reported, failed])
}

function sampleRss({ api }: Target): { stop(): number } {
  let peak = 0
  const sample = () => {
    peak = Math.max(peak, api.rssBytes())
  }
  const timer = setInterval(sample, samplePeriodMs)
  return {
    stop() {
      clearInterval(timer)
      sample()
      return peak
    },
  }
}

/**
 * Returns the memory in use when it no longer shrinks, or when it is at most `maxBytes`. Some connections end only
 * after a timeout.
 */
async function settledBytes({ api }: Target, maxBytes?: number): Promise<number> {
  const deadline = performance.now() + settleTimeoutMs
  let smallest = Number.POSITIVE_INFINITY
  for (let unchanged = 0; performance.now() < deadline; ) {
    await delay(300)
    const { usedBytes } = await api.measure()
    unchanged = usedBytes < smallest * 0.99 ? 0 : unchanged + 1
    smallest = Math.min(smallest, usedBytes)
    if (maxBytes === undefined ? unchanged >= 5 : smallest <= maxBytes) break
  }
  return smallest
}

/** Creates the jobs whose ids the generated requests use. The last belongs to the bystander. */
async function findKnownIds(target: Target): Promise<string[]> {
  const post = async (path: string, body: object, principal: string): Promise<string> => {
    const response = await fetch(`http://127.0.0.1:${target.api.port}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-principal': principal, prefer: 'wait=20' },
      body: JSON.stringify(body),
    })
    return ((await response.json()) as { id: string }).id
  }
  return [
    await post('/quick', { text: 'known' }, 'attacker'),
    await post('/failing', { text: 'known', isDeclared: true }, 'attacker'),
    await post('/bulk', { bytes: 2_000, content: 'random' }, 'attacker'),
    await post('/quick', { text: 'not yours' }, 'bystander'),
  ]
}

/** @returns the number of jobs that have not ended */
async function waitUntilDrained(target: Target): Promise<number> {
  const deadline = performance.now() + drainTimeoutMs
  // The bystander always has a job, so only the jobs that are here now count.
  const [{ now }] = await target.query('select clock_timestamp() as now')
  for (;;) {
    const [{ pending }] = await target.query(
      'select count(*)::int as pending from accepted.job where ended_at is null and created_at <= $1',
      [now],
    )
    if (pending === 0 || performance.now() > deadline) return pending
    await delay(200)
  }
}

async function findLostJobs(target: Target, accepted: readonly string[]): Promise<string[]> {
  const pending = await waitUntilDrained(target)
  const ids = [...new Set(accepted)]
  const [{ ended }] = await target.query(
    'select count(*)::int as ended from accepted.job where id = any($1::uuid[]) and ended_at is not null',
    [ids],
  )
  return [
    ...(pending > 0 ? [`${pending} jobs have not ended`] : []),
    ...(ended < ids.length ? [`${ids.length - ended} of ${ids.length} accepted jobs are lost or have not ended`] : []),
  ]
}
