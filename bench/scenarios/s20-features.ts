import { drainMetrics } from '../contenders/drain.ts'
import type { DrainLoad } from '../contenders/drain-process.ts'
import { accepting, defaults, draining } from '../contenders/features.ts'
import type { HttpLoad } from '../contenders/http.ts'
import { format } from '../core/format.ts'
import { type Listing, type Metric, measureTable, type Scenario, type Table } from '../core/scenario.ts'
import { ratio } from '../core/series.ts'

const httpMetrics: Metric[] = [
  { name: 'perSecond', label: 'requests/s' },
  { name: 'walBytes', label: 'WAL bytes/request' },
  { name: 'postgresCpu', label: 'Postgres CPU (µs/request)' },
  { name: 'processCpu', label: 'server CPU (µs/request)' },
]

/** What each feature costs, compared with the defaults. */
export const features: Scenario = {
  name: 'S20',
  title: 'Costs of features',
  async run(bench) {
    const load: HttpLoad = { connections: bench.quick ? 16 : 256, seconds: bench.quick ? 1 : 5 }
    const jobs: DrainLoad = bench.quick ? { jobs: 500, atMostSeconds: 5 } : { jobs: 20_000, atMostSeconds: 60 }
    const accepts = await measureTable<HttpLoad>(bench, {
      ...{ contenders: accepting, caption: 'Accepted requests, closed loop, connections: 256', metrics: httpMetrics },
      ...{ load, before: { ...load, seconds: 3 } },
    })
    const drains = await measureTable<DrainLoad>(bench, {
      ...{ contenders: draining, caption: 'Jobs settled in batches of 100', metrics: drainMetrics },
      ...{ load: jobs, before: { ...jobs, jobs: jobs.jobs / 4 } },
    })
    return {
      tables: [accepts, drains],
      listings: [
        costs('request', accepts, ['perSecond', 'walBytes', 'postgresCpu', 'processCpu']),
        costs('job', drains, ['perSecond', 'walBytes', 'postgresCpu', 'processCpu']),
      ],
      goals: [],
      notes: [
        '`defaults` is an operation with an idempotency key, a domain row and `fair`, as in S1 and S3. Each other contender differs from it in what its name says.',
        '`limit` and the backlogs are so high that nothing waits. `abandon` does nothing, but the payload is stored twice. "tracing" records the spans of OpenTelemetry\'s SDK in batches, and drops them. The processes of the other contenders connect as the owner of the tables.',
      ],
    }
  },
}

/** Each figure divided by that of the defaults, as the median over the rounds. */
function costs(unit: 'request' | 'job', { series }: Table, metrics: readonly string[]): Listing {
  const others = series.filter(({ contender }) => contender !== defaults.name)
  return {
    caption: `What a feature costs per ${unit}: its figure divided by that of the defaults`,
    head: ['', `${unit}s/s`, 'WAL', 'Postgres CPU', unit === 'request' ? 'server CPU' : 'worker CPU'],
    rows: others.map(({ contender }) => [
      contender,
      ...metrics.map((metric) => `${format(ratio(series, metric, contender, defaults.name))} ×`),
    ]),
  }
}
