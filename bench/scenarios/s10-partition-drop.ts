import { type DropLoad, partitionDrop } from '../contenders/partition-drop.ts'
import { format } from '../core/format.ts'
import { startOpenLoop } from '../core/open-loop.ts'
import { interleave, type Metric, type Scenario, type ScenarioResult, withContenders } from '../core/scenario.ts'
import { medianOf, ratio } from '../core/series.ts'

const during = partitionDrop('during the drop', true)
const without = partitionDrop('without a drop', false)

const metrics: Metric[] = [
  { name: 'p99', label: 'p99 (ms)' },
  { name: 'whole', label: 'p99 of all requests (ms)' },
  { name: 'lastPart', label: 'p99 at the end of the drop (ms)' },
  { name: 'p50', label: 'p50 of all requests (ms)' },
  { name: 'max', label: 'max (ms)' },
  { name: 'late', label: 'load generator late, p99 (ms)' },
  { name: 'drop', label: 'duration of the drop (s)' },
  { name: 'postgresCpu', label: 'Postgres CPU (% of a core)' },
  { name: 'wal', label: 'WAL (MB/s)' },
]

const maxRatio = 1.5

export const partitionDrops: Scenario = {
  name: 'S10',
  title: "Drop of a day's partition",
  run: (bench) =>
    withContenders<DropLoad, ScenarioResult>(bench, [during, without], async (opened) => {
      const loader = startOpenLoop(bench.directory)
      const load = bench.quick
        ? { perSecond: 100, seconds: 3, expiredJobs: 1_000 }
        : { perSecond: 1_000, seconds: 40, expiredJobs: 500_000 }
      try {
        const series = await interleave(bench, opened, metrics, { loader, ...load })
        const measured = ratio(series, 'p99', during.name, without.name)
        const figure = (metric: string, name = during.name) => format(medianOf(series, name, metric))
        const reason = [
          `Postgres takes ${figure('postgresCpu')} % of a core and writes ${figure('wal')} MB of WAL per second; without a drop ${figure('postgresCpu', without.name)} % and ${figure('wal', without.name)} MB.`,
          `The worker pauses after each batch of keys that it deletes, so it deletes during a tenth of the ${figure('drop')} s. While the table itself is dropped, p99 is ${figure('lastPart')} ms.`,
        ].join(' ')
        return {
          tables: [
            {
              caption: `Latency from when a request was due until its 202, open loop at ${load.perSecond.toLocaleString('en-US')} requests/s for ${load.seconds} s; the partition holds ${load.expiredJobs.toLocaleString('en-US')} expired jobs`,
              metrics,
              series,
            },
          ],
          goals: [
            {
              measure: 'p99 during the drop',
              comparedWith: without.name,
              bound: `≤ ${maxRatio} ×`,
              measured: `${format(measured)} ×`,
              isMet: measured <= maxRatio,
              reason,
            },
          ],
          notes: [
            'p99 is that of the requests due during the drop or within half a second after it; without a drop, that of all requests. "At the end of the drop" is the last second of the drop, in which the table itself is dropped, and the half second after it.',
            'The drop runs the code of the worker: it deletes the keys and attempts of the day, and drops its partition. It begins after a tenth of the time. In the runs without a drop, the partition is dropped after the load.',
          ],
        }
      } finally {
        await loader.stop()
      }
    }),
}
