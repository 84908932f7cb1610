import { format } from './format.ts'
import type { Goal } from './scenario.ts'
import { medianOf, ratio, type Series } from './series.ts'

type Common = Pick<Goal, 'measure' | 'reason' | 'variant'> & {
  contender: string
  /** The name of the metric in the samples. */
  metric: string
}

/** Creates a goal: the median of a metric must be at most `maximum`. */
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

/**
 * Creates a goal: the figure of a contender must be at least `minimum` times the figure of another contender.
 *
 * @param goal.comparedWith the name of the other contender in the report; default `other`
 */
export function atLeast(
  series: readonly Series[],
  {
    contender,
    metric,
    other,
    comparedWith = other,
    minimum,
    ...goal
  }: Common & { other: string; comparedWith?: string; minimum: number },
): Goal {
  const measured = ratio(series, metric, contender, other)
  return {
    ...goal,
    comparedWith,
    bound: `≥ ${minimum} ×`,
    measured: `${format(measured)} ×`,
    isMet: measured >= minimum,
  }
}

/** Describes a goal and the measured figure in one line. */
export const describeGoal = ({ measure, comparedWith, variant, measured, bound }: Goal): string =>
  `${measure}${comparedWith ? ` ÷ ${comparedWith}` : ''}${variant ? ` (${variant})` : ''}: ${measured} (goal ${bound})`
