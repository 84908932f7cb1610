import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import { stringify } from 'yaml'

const execute = promisify(execFile)

export const rulesFile = join(import.meta.dirname, '../../deploy/prometheus/alerts.yml')

/** Checks the syntax of the rules. Returns what promtool printed if it finds an error. */
export async function checkRules(): Promise<string | undefined> {
  return execute('promtool', ['check', 'rules', rulesFile]).then(
    () => undefined,
    ({ stdout, stderr }) => `${stdout}${stderr}`,
  )
}

/** The values of all series that were scraped at one time. */
export type Scrape = ReadonlyMap<string, number>

/** Parses metrics in the text format of Prometheus. Keeps the series of Accepted. */
export function parseScrape(text: string, instance: string): Scrape {
  const series = text.split('\n').flatMap((line) => {
    const [, name, labels = '', value] = line.match(/^(accepted_\w+)(?:\{(.*)\})? (\S+)$/) ?? []
    if (name === undefined || name.endsWith('_bucket')) return []
    return [[`${name}{${[labels, `instance="${instance}"`].filter(Boolean).join(',')}}`, Number(value)] as const]
  })
  return new Map(series)
}

/** A time during which each scrape has found the same values, apart from those that grow by themselves. */
export interface Phase {
  minutes: number
  scrape: Scrape
  /** Gauges that show an age, which grows by 60 seconds a minute. */
  ages?: RegExp
}

/** Which alerts fire at a time. */
export interface Expectation {
  /** Minutes since the first phase began. */
  at: number
  /** `<alert>`, or `<alert> <operation>`. */
  firing: readonly string[]
}

/** Plays scrapes, one a minute, and checks which alerts fire. Throws what promtool prints if others do. */
export async function play(t: Test, phases: readonly Phase[], expected: readonly Expectation[]): Promise<void> {
  const names = new Set(phases.flatMap(({ scrape }) => [...scrape.keys()]))
  const values = (name: string) =>
    phases.flatMap(({ minutes, scrape, ages }) => {
      const value = scrape.get(name)
      const growth = ages?.test(name) ? 60 : 0
      // Prometheus marks a series as stale when a scrape does not find it.
      return Array.from({ length: minutes }, (_, minute) => (value === undefined ? 'stale' : value + growth * minute))
    })
  const file = {
    rule_files: [rulesFile],
    evaluation_interval: '1m',
    tests: [
      {
        interval: '1m',
        input_series: [...names].map((series) => ({ series, values: values(series).join(' ') })),
        promql_expr_test: expected.map(({ at, firing }) => ({
          expr: 'count by (alertname, operation) (ALERTS{alertstate="firing"})',
          eval_time: `${at}m`,
          exp_samples: firing.map((alert) => {
            const [name, operation] = alert.split(' ')
            return { labels: `{alertname="${name}"${operation ? `,operation="${operation}"` : ''}}`, value: 1 }
          }),
        })),
      },
    ],
  }
  const directory = await mkdtemp(join(tmpdir(), 'accepted-alerts-'))
  try {
    const path = join(directory, 'test.yml')
    await writeFile(path, stringify(file))
    await execute('promtool', ['test', 'rules', path])
    t.pass(`fires: ${expected.map(({ at, firing }) => `${at} min: ${firing.join(', ') || 'nothing'}`).join('; ')}`)
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: string; stderr?: string }
    t.fail(`${stdout}${stderr}` || String(error))
  } finally {
    await rm(directory, { recursive: true })
  }
}
