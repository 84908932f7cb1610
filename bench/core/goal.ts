import { format, type Goal, type Metric, type Series } from './scenario.ts'
import { medianOf } from './stats.ts'

/** That the median of a metric over the rounds is not above a value. */
export function atMost(
  series: readonly Series[],
  {
    contender,
    metric,
    most,
    text,
    why,
  }: { contender: string; metric: Metric; most: number; text: string; why?: string },
): Goal {
  const measured = medianOf(series, contender, metric.name)
  return { goal: text, measured: `${format(measured)} ${metric.unit}`, isMet: measured <= most, ...(why && { why }) }
}
