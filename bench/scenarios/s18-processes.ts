import { cpus } from 'node:os'
import { drainMetrics } from '../contenders/drain.ts'
import { performProcesses, workerProcesses } from '../contenders/drain-accepted.ts'
import type { DrainLoad } from '../contenders/drain-process.ts'
import { apiProcesses, type HttpLoad } from '../contenders/http.ts'
import { type Contender, type Metric, measureTable, type Scenario } from '../core/scenario.ts'

const httpMetrics: Metric[] = [
  { name: 'perSecond', label: 'requests/s' },
  { name: 'p50', label: 'p50 (ms)' },
  { name: 'p99', label: 'p99 (ms)' },
  { name: 'commits', label: 'commits/request' },
  { name: 'postgresCpu', label: 'Postgres CPU (µs/request)' },
  { name: 'processCpu', label: 'server CPU (µs/request)' },
  { name: 'loaderCpu', label: 'wrk CPU (µs/request)' },
]

export const processes: Scenario = {
  name: 'S18',
  title: 'Several processes',
  async run(bench) {
    const seconds = bench.quick ? 1 : 5
    const load = { connections: 256, seconds }
    const jobs = bench.quick ? { jobs: 2_000, atMostSeconds: 5 } : { jobs: 20_000, atMostSeconds: 60 }
    const fewer = { ...jobs, jobs: jobs.jobs / 5 }
    const drain = (caption: string, contenders: readonly Contender<DrainLoad>[]) =>
      measureTable(bench, { caption, metrics: drainMetrics, contenders, load: jobs, before: fewer })
    const caption = 'Accepted requests, closed loop, connections: 256'
    const before = { ...load, seconds: 3 }
    return {
      tables: [
        await measureTable<HttpLoad>(bench, { caption, metrics: httpMetrics, contenders: apiProcesses, load, before }),
        await drain('Jobs completed in batches', workerProcesses),
        await drain('Jobs completed after perform', performProcesses),
      ],
      goals: [],
      notes: [
        `\`--processes\` of \`accepted api\` and \`accepted worker\`. The load, Postgres and all processes share ${cpus().length} processors, so another process gains only what one process leaves idle.`,
      ],
    }
  },
}
