import pg from 'pg'
import { format } from '../core/format.ts'
import { threadOf } from '../core/proc.ts'
import type { Bench, Metric, Scenario, ScenarioResult } from '../core/scenario.ts'
import { addWaiting, seedWeek } from '../core/seed-week.ts'
import { medianOf, type Sample, type Series } from '../core/series.ts'
import { query } from '../core/server.ts'

const metrics: Metric[] = [
  { name: 'ms', label: 'ms' },
  { name: 'cpu', label: 'Postgres CPU (ms)' },
  { name: 'unanalyzed', label: 'without statistics (ms)' },
  { name: 'unanalyzedCpu', label: 'CPU without statistics (ms)' },
]

const maxMs = 100

interface Size {
  /** Jobs of seven days. */
  jobs: number
  /** Jobs that are added to one queue after the first measurement. */
  due: number
  deferred: number
}

/** The queries on views of one row per job, and an index finds the rows. */
async function queriesOfJobs(url: string): Promise<Record<string, string>> {
  const [failed] = await query<Record<'id' | 'principal' | 'operation', string>>(
    url,
    `select id, principal, operation from accepted.job where status = 'failed' order by id desc offset 10 limit 1`,
  )
  if (!failed) throw new Error('There is no failed job')
  const { id, principal, operation } = failed
  const newest = (condition: string) => `select * from accepted.job_overview ${condition} order by id desc limit 50`
  return {
    'job_overview: newest 50': newest(''),
    'job_overview: newest 50 of a principal': newest(`where principal = '${principal}'`),
    'job_overview: newest 50 failed of an operation': newest(`where operation = '${operation}' and status = 'failed'`),
    'job_overview: one job': `select * from accepted.job_overview where id = '${id}'`,
    timeline: `select * from accepted.timeline where job_id = '${id}' order by at`,
    held_key: `select * from accepted.held_key where principal = '${principal}'`,
  }
}

const wholeViews = ['stuck', 'backlog', 'failure', 'throughput', 'storage', 'worker_overview']
const queriesOf = (views: readonly string[]) =>
  Object.fromEntries(views.map((view) => [view, `select * from accepted.${view}`]))

/** Runs each query in turns, each over a connection of its own with the settings of the server, like psql. */
async function measureQueries(url: string, queries: Record<string, string>, rounds: number) {
  const measured = new Map<string, Sample[]>()
  for (const [name, text] of Object.entries(queries)) {
    const client = new pg.Client({ connectionString: url })
    await client.connect()
    try {
      const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid')
      const cpu = () => threadOf(rows[0]?.pid as number).computed * 1000
      const samples: Sample[] = []
      for (let round = 0; round < rounds; round++) {
        const [startedAt, cpuBefore] = [performance.now(), cpu()]
        await client.query(text)
        samples.push({ ms: performance.now() - startedAt, cpu: cpu() - cpuBefore })
      }
      measured.set(name, samples)
    } finally {
      await client.end()
    }
  }
  return measured
}

/** Measures queries before and after `vacuum analyze`. */
async function measureTwice(url: string, queries: Record<string, string>, rounds: number): Promise<Series[]> {
  const unanalyzed = await measureQueries(url, queries, rounds)
  await query(url, 'vacuum analyze')
  const analyzed = await measureQueries(url, queries, rounds)
  return Object.keys(queries).map((contender) => ({
    contender,
    samples: (analyzed.get(contender) ?? []).map((sample, round) => {
      const { ms = Number.NaN, cpu = Number.NaN } = unanalyzed.get(contender)?.[round] ?? {}
      return { ...sample, unanalyzed: ms, unanalyzedCpu: cpu }
    }),
  }))
}

/**
 * Fills a migrated database and measures its views.
 *
 * @param url a database of a server without autovacuum, which would collect statistics
 */
export async function measureViews(
  url: string,
  { jobs, due, deferred }: Size,
  { rounds, log }: Pick<Bench, 'rounds' | 'log'>,
): Promise<{ week: Series[]; waiting: Series[] }> {
  await seedWeek(url, jobs)
  const week = await measureTwice(url, { ...queriesOf(wholeViews), ...(await queriesOfJobs(url)) }, rounds)
  await addWaiting(url, { due, deferred })
  const waiting = await measureTwice(url, queriesOf(['stuck', 'backlog', 'worker_overview']), rounds)
  for (const { contender, samples } of [...week, ...waiting]) {
    const figures = metrics.map(({ name }) => format(medianOf([{ contender, samples }], contender, name)))
    log(`${contender} · ${figures.join(' · ')}`)
  }
  return { week, waiting }
}

export const views: Scenario = {
  name: 'S13',
  title: 'Views for people',
  async run(bench): Promise<ScenarioResult> {
    const { server } = bench
    const setAutovacuum = async (change: string) => {
      await query(server.urlOf('postgres'), `alter system ${change}`)
      await query(server.urlOf('postgres'), 'select pg_reload_conf()')
    }
    const url = await server.createOurs('views')
    const size = bench.quick
      ? { jobs: 10_000, due: 1_000, deferred: 10_000 }
      : { jobs: 1_000_000, due: 100_000, deferred: 1_000_000 }
    await setAutovacuum('set autovacuum = off')
    try {
      const { week, waiting } = await measureViews(url, size, bench)
      const slowest = [...week, ...waiting]
        .map((series) => ({ name: series.contender, ms: medianOf([series], series.contender, 'ms') }))
        .reduce((slower, one) => (one.ms > slower.ms ? one : slower))
      const count = (jobs: number) => jobs.toLocaleString('en-US')
      return {
        tables: [
          { caption: `${count(size.jobs)} jobs of seven days, of 30 operations`, metrics, series: week },
          {
            caption: `In addition, ${count(size.due)} due jobs in one queue, behind ${count(size.deferred)} deferred ones`,
            metrics,
            series: waiting,
          },
        ],
        goals: [
          {
            ...{ measure: 'slowest view', variant: slowest.name, bound: `≤ ${maxMs} ms` },
            ...{ measured: `${format(slowest.ms)} ms`, isMet: slowest.ms <= maxMs },
            reason: 'The views read a bounded number of rows, as the comment of each says.',
          },
        ],
        notes: [
          'Each query runs with the settings of the server, as in psql. The columns "without statistics" are from before the first `vacuum analyze`.',
        ],
      }
    } finally {
      await setAutovacuum('reset autovacuum')
      await server.dropDatabase('views')
    }
  },
}
