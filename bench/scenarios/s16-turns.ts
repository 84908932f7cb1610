import { waitMs } from '../app/operations.ts'
import { type ClaimLoad, claims } from '../contenders/claim-time.ts'
import { alone, byAge, inTurn, type TurnsLoad } from '../contenders/turns.ts'
import { format } from '../core/format.ts'
import { atLeast } from '../core/goal.ts'
import { type Goal, interleave, type Metric, type Scenario, withContenders } from '../core/scenario.ts'
import { medianOf, ratio, type Series } from '../core/series.ts'

const turnMetrics: Metric[] = [
  { name: 'last', label: 'last of the others (ms)' },
  { name: 'median', label: 'median of the others (ms)' },
  { name: 'perSecond', label: 'jobs/s' },
  { name: 'completed', label: 'jobs completed' },
]

const claimMetrics: Metric[] = [
  { name: 'p50', label: 'claim p50 (ms)' },
  { name: 'p99', label: 'claim p99 (ms)' },
]

const maxSlowdown = 3
const principals = 1_000

export const turns: Scenario = {
  name: 'S16',
  title: 'Turns of principals',
  async run(bench) {
    const load: TurnsLoad = { heavyJobs: bench.quick ? 500 : 10_000, lightPrincipals: 99, atMostSeconds: 240 }
    const claimLoad: ClaimLoad = { claims: bench.quick ? 20 : 200, jobsPerClaim: 10 }
    const turnSeries = await withContenders<TurnsLoad, Series[]>(bench, [inTurn, byAge, alone], (opened) =>
      interleave(bench, opened, turnMetrics, load, { ...load, heavyJobs: 500 }),
    )
    const [large, small] = bench.quick
      ? [claims(10_000, principals), claims(1_000, principals)]
      : [claims(1_000_000, principals), claims(10_000, principals)]
    const claimSeries = await withContenders<ClaimLoad, Series[]>(bench, [large, small], (opened) =>
      interleave(bench, opened, claimMetrics, claimLoad, claimLoad),
    )
    return {
      tables: [
        {
          caption: `One principal has ${load.heavyJobs.toLocaleString('en-US')} queued jobs, ${load.lightPrincipals} others have one newer job each. A job takes ${waitMs} ms, and one worker runs ten jobs at once. Times count from the first start`,
          metrics: turnMetrics,
          series: turnSeries,
        },
        {
          caption: `Claims of ${claimLoad.jobsPerClaim} jobs in turn, from a queue with jobs of ${principals.toLocaleString('en-US')} principals, without a worker`,
          metrics: claimMetrics,
          series: claimSeries,
        },
      ],
      goals: [
        slowdownGoal(turnSeries),
        atLeast(turnSeries, {
          ...{ contender: inTurn.name, metric: 'perSecond', other: byAge.name, minimum: 0.95 },
          ...{ measure: 'jobs/s, in turn', reason: 'A claim in turn looks up each principal separately.' },
        }),
        atLeast(claimSeries, {
          ...{ contender: large.name, metric: 'perSecond', other: small.name, minimum: 0.8 },
          ...{ measure: 'claims/s', reason: 'The index of a larger queue has more levels and fits worse into memory.' },
        }),
      ],
      notes: [
        '"Without the backlog" has only the jobs of the other principals, so its times show how long they take by themselves.',
      ],
    }
  },
}

/** The last of the other principals may take three times as long as without the backlog, plus one run time. */
function slowdownGoal(series: readonly Series[]): Goal {
  const allowed = maxSlowdown + waitMs / medianOf(series, alone.name, 'last')
  const measured = ratio(series, 'last', inTurn.name, alone.name)
  return {
    measure: 'last of the others (ms)',
    comparedWith: alone.name,
    bound: `≤ ${format(allowed)} ×`,
    measured: `${format(measured)} ×`,
    isMet: measured <= allowed,
    reason: 'The first claim takes the oldest jobs. Then each principal gets one job per round.',
  }
}
