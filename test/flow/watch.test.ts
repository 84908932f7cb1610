import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { openDatabase } from '../../src/db/database.ts'
import { post } from '../support/client.ts'
import { createDatabase } from '../support/database.ts'
import { start } from '../support/program.ts'
import { startProxy } from '../support/proxy.ts'
import { until } from '../support/until.ts'
import { schema } from './fixtures/operations.ts'

const config = join(import.meta.dirname, 'fixtures/accepted.config.ts')
const jobs = 100
const watchersOfEach = 10

/** When a watcher learnt the end of its job, after it had ended, in milliseconds. */
type Lag = number

/** Asks again, as it is told to, when the API or its database has no time for everybody at once. */
async function ask(url: string, headers: Record<string, string>): Promise<Response> {
  for (;;) {
    const response = await fetch(url, { headers })
    if (response.status !== 503) return response
    await response.text()
    await delay(Number(response.headers.get('retry-after')) * 1000)
  }
}

async function poll(url: string): Promise<Lag> {
  let etag = ''
  for (;;) {
    const headers = { prefer: 'wait=55', ...(etag && { 'if-none-match': etag }) }
    const response = await ask(url, headers)
    const text = await response.text()
    etag = response.headers.get('etag') as string
    const monitor = text ? JSON.parse(text) : {}
    if (monitor.endedAt) return Date.now() - Date.parse(monitor.endedAt)
  }
}

async function stream(url: string, onOpen: () => void): Promise<Lag> {
  const response = await ask(`${url}/events`, { accept: 'text/event-stream' })
  let text = ''
  for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
    if (text === '') onOpen()
    text += chunk
    const [, endedAt] = text.match(/"status":"succeeded".*"endedAt":"([^"]+)"/) ?? []
    if (endedAt) return Date.now() - Date.parse(endedAt)
  }
  throw new Error(`The stream ended without the end of the job: ${text}`)
}

/** Watches every job on two API processes, half by long poll and half by server-sent events, until all have ended. */
async function watchAll(t: Test, databaseUrl: string, env: NodeJS.ProcessEnv): Promise<Lag[]> {
  const database = openDatabase({ url: databaseUrl })
  t.teardown(() => database.close())
  await database.pool.query(schema)
  const apis = await Promise.all([
    start(t, 'api', { config, databaseUrl, env }),
    start(t, 'api', { config, databaseUrl, env }),
  ])
  const ids: string[] = []
  for (let index = 0; index < jobs; index++) {
    const { body } = await post(`${apis[index % 2]?.url}/notes`, { text: `note ${index}` })
    ids.push(body.id)
  }
  let open = 0
  const watchers = ids.flatMap((id) =>
    Array.from({ length: watchersOfEach }, (_, index) => {
      const url = `${apis[index % 2]?.url}/jobs/${id}`
      return index % 4 < 2 ? poll(url) : stream(url, () => open++)
    }),
  )
  // Half of them stream, and are seen to be there; each API counts the jobs that are waited for.
  await until(() => open === (jobs * watchersOfEach * 4) / 10)
  for (const { url } of apis) {
    await until(async () => (await metric(url, 'accepted_watched_jobs')) === jobs)
  }
  await start(t, 'worker', { config, databaseUrl })
  return Promise.all(watchers)
}

async function metric(url: string, name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text()
  return Number(text.match(new RegExp(`^${name} (.*)$`, 'm'))?.[1])
}

function report(t: Test, lags: Lag[]): void {
  const sorted = lags.toSorted((a, b) => a - b)
  const at = (part: number) => Math.round(sorted[Math.ceil(sorted.length * part) - 1] as number)
  t.comment(`learnt after: half ${at(0.5)} ms, 99 % ${at(0.99)} ms, all ${at(1)} ms`)
}

t.test('1,000 watchers of 100 jobs on two API processes all learn the end; each process listens once', async (t) => {
  const databaseUrl = await createDatabase(t)
  const lags = await watchAll(t, databaseUrl, {})
  t.equal(lags.length, jobs * watchersOfEach)
  report(t, lags)
  const database = openDatabase({ url: databaseUrl })
  t.teardown(() => database.close())
  const { rows } = await database.pool.query(`
    select application_name as name, count(*)::int as connections from pg_stat_activity
    where datname = current_database() and application_name like '% listen'
    group by 1 order by 1`)
  t.same(rows, [
    { name: 'accepted api listen', connections: 2 },
    { name: 'accepted worker listen', connections: 1 },
  ])
})

t.test('the same when no notification is heard: the floor under them finds every end', async (t) => {
  const databaseUrl = await createDatabase(t)
  const deaf = await startProxy(t, databaseUrl)
  await deaf.close()
  const lags = await watchAll(t, databaseUrl, { DATABASE_LISTEN_URL: deaf.url })
  t.equal(lags.length, jobs * watchersOfEach)
  report(t, lags)
})
