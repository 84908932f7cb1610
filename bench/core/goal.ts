import { format, type Goal, type Metric, type Series } from './scenario.ts'
import { medianOf, ratio } from './stats.ts'

interface Asked {
  contender: string
  /** What is to be reached, in words. */
  text: string
  /** What bounds it, should it be missed. */
  why: string
}

/** That the median of a metric over the rounds is not above a value. */
export function atMost(
  series: readonly Series[],
  { contender, metric, most, text, why }: Asked & { metric: Metric; most: number },
): Goal {
  const measured = medianOf(series, contender, metric.name)
  return { goal: text, measured: `${format(measured)} ${metric.unit}`, isMet: measured <= most, why }
}

/** That a contender comes to so many times as much as another one in the same round, or more. */
export function atLeast(
  series: readonly Series[],
  { contender, metric, than, least, text, why }: Asked & { metric: string; than: string; least: number },
): Goal {
  const measured = ratio(series, metric, contender, than)
  return { goal: text, measured: `${format(measured)} ×`, isMet: measured >= least, why }
}
