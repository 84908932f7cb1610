import { format } from './format.ts'
import type { Goal } from './scenario.ts'
import { medianOf, ratio, type Series } from './series.ts'

type Common = Pick<Goal, 'measure' | 'reason' | 'variant'> & {
  contender: string
  /** The name of the metric in the samples. */
  metric: string
}

/** A goal that the median of a metric is at most `maximum`. */
export function atMost(
  series: readonly Series[],
  { contender, metric, maximum, unit, ...goal }: Common & { maximum: number; unit: string },
): Goal {
  const measured = medianOf(series, contender, metric)
  return {
    ...goal,
    bound: `≤ ${maximum} ${unit}`,
    measured: `${format(measured)} ${unit}`,
    isMet: measured <= maximum,
  }
}

/** A goal that a contender reaches at least `minimum` times the figure of another one in the same round. */
export function atLeast(
  series: readonly Series[],
  { contender, metric, other, minimum, ...goal }: Common & { other: string; minimum: number },
): Goal {
  const measured = ratio(series, metric, contender, other)
  return { ...goal, bound: `≥ ${minimum} ×`, measured: `${format(measured)} ×`, isMet: measured >= minimum }
}
