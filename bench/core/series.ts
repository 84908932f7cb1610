import { median } from './stats.ts'

/** One measurement: values by metric name. */
export type Sample = Readonly<Record<string, number>>

/** The measurements of one contender, one per round. */
export interface Series {
  contender: string
  samples: Sample[]
}

function valuesOf(series: readonly Series[], contender: string, metric: string): number[] {
  const found = series.find((one) => one.contender === contender)
  if (!found) throw new Error(`There is no contender ${contender}`)
  return found.samples.map((sample) => sample[metric] ?? Number.NaN)
}

/** Returns the median of a metric over the rounds. */
export const medianOf = (series: readonly Series[], contender: string, metric: string): number =>
  median(valuesOf(series, contender, metric))

/** Divides the figure of `contender` by the figure of `other`, for each round. Returns the median of these ratios. */
export function ratio(series: readonly Series[], metric: string, contender: string, other: string): number {
  const divisors = valuesOf(series, other, metric)
  return median(valuesOf(series, contender, metric).map((value, round) => value / (divisors[round] as number)))
}
