import type { Series } from './scenario.ts'

/** The value in the middle; of an even number the mean of the two. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length / 2
  if (sorted.length === 0) return Number.NaN
  return ((sorted[Math.ceil(middle) - 1] as number) + (sorted[Math.floor(middle)] as number)) / 2
}

/**
 * The value below which a part of all lies.
 *
 * @param part from 0 to 1
 */
export function quantile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(part * sorted.length) - 1))] ?? Number.NaN
}

/** What a metric of a contender was, round by round. */
export function samplesOf(series: readonly Series[], contender: string, metric: string): number[] {
  const found = series.find((one) => one.contender === contender)
  if (!found) throw new Error(`Nobody is called ${contender}`)
  return found.samples.map((sample) => sample[metric] ?? Number.NaN)
}

/** The median of a metric of a contender. */
export const medianOf = (series: readonly Series[], contender: string, metric: string): number =>
  median(samplesOf(series, contender, metric))

/** The median of what one contender came to in relation to another in the same round. */
export function ratio(series: readonly Series[], metric: string, ours: string, theirs: string): number {
  const others = samplesOf(series, theirs, metric)
  return median(samplesOf(series, ours, metric).map((value, round) => value / (others[round] as number)))
}
