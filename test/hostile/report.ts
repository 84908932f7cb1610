import type { Latency } from './bystander.ts'
import type { PhaseResult } from './hostile.ts'

/** A bystander's requests must be this fast, except one of a hundred. */
export const maxP99Ms = 250
const maxShownSteps = 5

/** Returns a quantile of numbers, or 0 if there are none. */
export function quantile(numbers: readonly number[], share: number): number {
  const sorted = numbers.toSorted((a, b) => a - b)
  return sorted[Math.min(Math.floor(sorted.length * share), sorted.length - 1)] ?? 0
}

const columns = [
  ['phase', 20],
  ['requests', 9],
  ['p50 ms', 7],
  ['p99 ms', 7],
  ['max ms', 7],
  ['blocked ms', 11],
  ['peak MiB', 9],
  ['RSS MiB', 8],
  ['used MiB', 9],
  ['log kB', 8],
  ['seconds', 8],
] as const

export const formatMib = (bytes: number) => Math.round(bytes / 2 ** 20)

/** The explanation and the head of the table. */
export const tableHead = [
  'p50, p99 and max are those of the bystander. blocked: the longest time that the event loop of the API was blocked.',
  'peak: the largest RSS of the API. RSS and used are measured afterwards; used is its heap and external memory.',
  columns.map(([name, width], index) => (index === 0 ? name.padEnd(width) : name.padStart(width))).join(''),
].join('\n')

/** Formats a result: a line of figures, a line of statuses, and a line for each finding. */
export function formatResult(result: PhaseResult, findings: readonly string[]): string {
  const { phase, sent, latencies, statuses, maxBlockedMs, peakRssBytes, rssBytes, usedBytes, logBytes, seconds } =
    result
  const times = latencies.map(({ ms }) => ms)
  const figures = [
    ...[sent, quantile(times, 0.5), quantile(times, 0.99), Math.max(...times, 0), maxBlockedMs],
    ...[formatMib(peakRssBytes), formatMib(rssBytes), formatMib(usedBytes), logBytes / 1000, seconds],
  ]
  const cells = figures.map((figure, index) =>
    Math.round(figure)
      .toString()
      .padStart(columns[index + 1]?.[1] ?? 0),
  )
  const counts = Object.entries(statuses)
    .toSorted(([a], [b]) => a.localeCompare(b))
    .map(([status, count]) => `${status}: ${count}`)
  return [
    `${phase.padEnd(columns[0][1])}${cells.join('')}`,
    `  ${counts.join(' · ')}`,
    ...formatSlowest(latencies),
    ...findings.map((finding) => `  FAIL ${finding}`),
  ].join('\n')
}

/** Formats the longest waits of the bystander during each kind of traffic, the longest first. */
function formatSlowest(latencies: readonly Latency[]): string[] {
  const byStep = Map.groupBy(latencies, ({ step }) => step)
  const slowest = [...byStep.values()].flatMap((some) => some.toSorted((a, b) => b.ms - a.ms)[0] ?? [])
  const shown = slowest.toSorted((a, b) => b.ms - a.ms).slice(0, maxShownSteps)
  const texts = shown.map(({ ms, method, path, step }) => {
    return `${Math.round(ms)} ms ${method} ${path.replace(/[\da-f-]{36}/, '…')} (${step})`
  })
  return texts.length > 0 ? [`  longest waits: ${texts.join(' · ')}`] : []
}

/** Returns what failed in a phase, the bystander's waiting included. */
export function findingsOf({ findings, latencies }: PhaseResult): string[] {
  const p99 = quantile(
    latencies.map(({ ms }) => ms),
    0.99,
  )
  const isSlow = p99 > maxP99Ms
  return [...findings, ...(isSlow ? [`A bystander's p99 was ${Math.round(p99)} ms, not at most ${maxP99Ms} ms`] : [])]
}
