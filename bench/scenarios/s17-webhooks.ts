import { type WebhookLoad, withoutSilent, withSilent } from '../contenders/webhooks.ts'
import { atMost } from '../core/goal.ts'
import { interleave, type Metric, type Scenario, type ScenarioResult, withContenders } from '../core/scenario.ts'

const metrics: Metric[] = [
  { name: 'p50', label: 'p50 (ms)' },
  { name: 'p99', label: 'p99 (ms)' },
  { name: 'max', label: 'max (ms)' },
  { name: 'missing', label: 'missing' },
]

const endpoints = { answering: 40, silent: 10 }

export const webhooks: Scenario = {
  name: 'S17',
  title: 'Webhook endpoints that never answer',
  run: (bench) =>
    withContenders<WebhookLoad, ScenarioResult>(bench, [withSilent, withoutSilent], async (opened) => {
      const load = { ...endpoints, perSecond: 2, seconds: bench.quick ? 2 : 40 }
      const series = await interleave(bench, opened, metrics, load, { ...load, seconds: 1 })
      const contender = withSilent.name
      const reason =
        'Deliveries to a silent endpoint hold at most a twentieth of the free slots until its breaker opens.'
      return {
        tables: [
          {
            caption: `Time from the end of a job until its delivery arrives at an endpoint that answers: ${load.perSecond} jobs/s, each delivered to ${endpoints.answering} endpoints that answer, and to ${endpoints.silent} that never do`,
            metrics,
            series,
          },
        ],
        goals: [
          atMost(series, { contender, metric: 'p99', maximum: 2_000, unit: 'ms', measure: 'p99', reason }),
          atMost(series, { contender, metric: 'missing', maximum: 0, unit: '', measure: 'missing deliveries', reason }),
        ],
        notes: [],
      }
    }),
}
