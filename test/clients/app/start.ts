import { join } from 'node:path'
import pg from 'pg'
import type { Test } from 'tap'
import { createDatabase } from '../../support/database.ts'
import { type Program, start } from '../../support/program.ts'
import { until } from '../../support/until.ts'
import { schema, type Tables } from './operations.ts'

const config = join(import.meta.dirname, 'accepted.config.ts')

/** An API process and a worker process with a new database. */
export interface App {
  /** The URL of the API. */
  url: string
  api: Program
  /** Sets the progress of a `document.render` job, or ends the job. */
  steer(name: string, direction: Partial<Omit<Tables['direction'], 'name'>>): Promise<void>
  /** Enqueues a `word.count` job that is due tomorrow. Returns its id. */
  addDeferred(): Promise<string>
}

export interface AppOptions {
  /** The operations whose jobs the worker claims, separated by commas. The default is all operations. */
  operations?: string
}

export async function startApp(t: Test, { operations }: AppOptions = {}): Promise<App> {
  const databaseUrl = await createDatabase(t)
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  t.teardown(() => client.end())
  await client.query(schema)
  const [api] = await Promise.all([
    start(t, 'api', { config, databaseUrl }),
    start(t, 'worker', { config, databaseUrl, ...(operations && { args: ['--operations', operations] }) }),
  ])
  return {
    url: api.url,
    api,
    async steer(name, { percent = 0, message = '', ending = null }) {
      await client.query(
        `insert into direction values ($1, $2, $3, $4) on conflict (name)
         do update set percent = excluded.percent, message = excluded.message, ending = excluded.ending`,
        [name, percent, message, ending],
      )
    },
    async addDeferred() {
      const { rows } = await client.query(
        `select accepted.enqueue('word.count', '{"text": "one"}', run_at => now() + interval '1 day') as id`,
      )
      return rows[0].id
    },
  }
}

/** Reads a metric of the API. */
export async function metric({ url }: App, name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text()
  const [, value] = text.match(new RegExp(`^${name} (\\S+)$`, 'm')) ?? []
  if (value === undefined) throw new Error(`The API has no metric ${name}`)
  return Number(value)
}

/**
 * Reserves seats until the backlog is full, and returns the URLs of the jobs. The size of the backlog is cached for a
 * second, so there may be more jobs than the limit.
 */
export async function takeAllSeats({ url }: App): Promise<string[]> {
  const jobs: string[] = []
  await until(async () => {
    const response = await fetch(`${url}/seat`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ text: 'taken' }),
    })
    await response.body?.cancel()
    if (response.status === 202) jobs.push(response.headers.get('operation-location') as string)
    return response.status === 503
  })
  return jobs
}
