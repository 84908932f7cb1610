import { type DropLoad, partitionDrop } from '../contenders/partition-drop.ts'
import { startOpenLoop } from '../core/open-loop.ts'
import { format, interleave, type Metric, type Outcome, type Scenario, withContenders } from '../core/scenario.ts'
import { medianOf, ratio } from '../core/stats.ts'

const during = partitionDrop('while it is dropped', true)
const without = partitionDrop('while it is there', false)

const metrics: Metric[] = [
  { name: 'p99', unit: 'ms' },
  { name: 'whole', unit: 'ms' },
  { name: 'atTheEnd', unit: 'ms' },
  { name: 'p50', unit: 'ms' },
  { name: 'max', unit: 'ms' },
  { name: 'late', unit: 'ms' },
  { name: 'drop', unit: 's' },
  { name: 'postgresCpu', unit: '% of a core' },
  { name: 'wal', unit: 'MB a second' },
]

export const partitionDrops: Scenario = {
  name: 'S10',
  title: 'Dropping the partition of a day while requests are accepted',
  run: (bench) =>
    withContenders<DropLoad, Outcome>(bench, [during, without], async (opened) => {
      const loader = startOpenLoop(bench.directory)
      const load = bench.quick ? { seconds: 5, expired: 10_000 } : { seconds: 40, expired: 500_000 }
      const perSecond = 1_000
      try {
        const series = await interleave(bench, opened, { loader, perSecond, ...load })
        const measured = ratio(series, 'p99', during.name, without.name)
        const figure = (metric: string, name = during.name) => format(medianOf(series, name, metric))
        const why = `Postgres takes ${figure('postgresCpu')} % of a core, and ${figure('postgresCpu', without.name)} without a drop, and writes ${figure('wal')} MB of WAL a second, and ${figure('wal', without.name)}, while for a tenth of ${figure('drop')} s keys are deleted; where the table itself is dropped, p99 is ${figure('atTheEnd')} ms`
        return {
          tables: [
            {
              caption: `From when a request should have been sent to its 202, ${perSecond.toLocaleString('en-US')} a second for ${load.seconds} s, open loop; the partition of a day with ${load.expired.toLocaleString('en-US')} jobs that have expired`,
              metrics,
              series,
            },
          ],
          goals: [
            { goal: 'p99 ≤ 1.5 × that without a drop', measured: `${format(measured)} ×`, isMet: measured <= 1.5, why },
          ],
          notes: [
            '`p99` is that of the requests that were due during the drop or half a second after it, and where there was none of all; `whole` that of all; `atTheEnd` that of the last second of the drop, in which the table goes, and half a second after it. `drop` is how long the worker’s own code took to delete the keys and attempts of the day and to drop its partition, begun after a tenth of the time; where it is there all the time, it was dropped afterwards, with nothing else going on.',
          ],
        }
      } finally {
        await loader.stop()
      }
    }),
}
