import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { post } from '../support/client.ts'
import { start } from '../support/program.ts'
import { startProxy } from '../support/proxy.ts'
import { until } from '../support/until.ts'
import { config, createFixtureDatabase } from './fixtures/database.ts'

const jobCount = 100
const watchersPerJob = 10

/** The time from the end of a job until a watcher received the final status. */
type LagMs = number

/** Gets a URL. After a 503, waits for the time in the Retry-After header and tries again. */
async function getWithRetry(url: string, headers: Record<string, string>): Promise<Response> {
  for (;;) {
    const response = await fetch(url, { headers })
    if (response.status !== 503) return response
    await response.text()
    await delay(Number(response.headers.get('retry-after')) * 1000)
  }
}

async function watchByLongPoll(url: string): Promise<LagMs> {
  let etag = ''
  for (;;) {
    const headers = { prefer: 'wait=55', ...(etag && { 'if-none-match': etag }) }
    const response = await getWithRetry(url, headers)
    const text = await response.text()
    etag = response.headers.get('etag') as string
    const monitor = text ? JSON.parse(text) : {}
    if (monitor.endedAt) return Date.now() - Date.parse(monitor.endedAt)
  }
}

async function watchByStream(url: string, onOpen: () => void): Promise<LagMs> {
  for (;;) {
    const response = await fetch(`${url}/events`, { headers: { accept: 'text/event-stream' } })
    let text = ''
    let isOpen = false
    for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
      text += chunk
      if (!isOpen && text.includes('data:')) {
        isOpen = true
        onOpen()
      }
      const [, endedAt] = text.match(/"status":"succeeded".*"endedAt":"([^"]+)"/) ?? []
      if (endedAt) return Date.now() - Date.parse(endedAt)
    }
    // An API process that is too busy only says when to connect again.
    const [, retryMs] = text.match(/^retry: (\d+)\n\n$/) ?? []
    if (!retryMs) throw new Error(`The stream closed before the job ended: ${text}`)
    await delay(Number(retryMs))
  }
}

/** Creates jobs on two API processes, and watches all jobs by long polls and event streams until they have ended. */
async function watchAll(t: Test, databaseUrl: string, env: NodeJS.ProcessEnv): Promise<LagMs[]> {
  const apis = await Promise.all([
    start(t, 'api', { config, databaseUrl, env }),
    start(t, 'api', { config, databaseUrl, env }),
  ])
  const ids: string[] = []
  for (let index = 0; index < jobCount; index++) {
    const { body } = await post(`${apis[index % 2]?.url}/notes`, { text: `note ${index}` })
    ids.push(body.id)
  }
  let openStreams = 0
  const usesStream = (index: number) => index % 4 >= 2
  const watchers = ids.flatMap((id) =>
    Array.from({ length: watchersPerJob }, (_, index) => {
      const url = `${apis[index % 2]?.url}/jobs/${id}`
      return usesStream(index) ? watchByStream(url, () => openStreams++) : watchByLongPoll(url)
    }),
  )
  // The worker starts when all jobs are watched. The test counts open streams, and each API counts its watched jobs.
  const streamsPerJob = Array.from({ length: watchersPerJob }, (_, index) => index).filter(usesStream).length
  await until(() => openStreams === jobCount * streamsPerJob)
  for (const { url } of apis) {
    await until(async () => (await readMetric(url, 'accepted_watched_jobs')) === jobCount)
  }
  await start(t, 'worker', { config, databaseUrl })
  return Promise.all(watchers)
}

async function readMetric(url: string, name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text()
  return Number(text.match(new RegExp(`^${name} (.*)$`, 'm'))?.[1])
}

function report(t: Test, lags: LagMs[]): void {
  const sorted = lags.toSorted((a, b) => a - b)
  const percentile = (part: number) => Math.round(sorted[Math.ceil(sorted.length * part) - 1] as number)
  t.comment(`lag: p50 ${percentile(0.5)} ms, p99 ${percentile(0.99)} ms, max ${percentile(1)} ms`)
}

t.test('1,000 watchers of 100 jobs see their job end, and each process has one LISTEN connection', async (t) => {
  const { databaseUrl, database } = await createFixtureDatabase(t)
  const lags = await watchAll(t, databaseUrl, {})
  t.equal(lags.length, jobCount * watchersPerJob)
  report(t, lags)
  const { rows } = await database.pool.query(`
    select regexp_replace(application_name, ' [^ ]+:\\d+ ', ' ') as name, count(*)::int as connections from pg_stat_activity
    where datname = current_database() and application_name like '% listen'
    group by 1 order by 1`)
  t.same(rows, [
    { name: 'accepted api listen', connections: 2 },
    { name: 'accepted worker listen', connections: 1 },
  ])
})

t.test(
  'without notifications, 1,000 watchers of 100 jobs still see their job end, because the API polls',
  async (t) => {
    const { databaseUrl } = await createFixtureDatabase(t)
    const proxy = await startProxy(t, databaseUrl)
    await proxy.close()
    const lags = await watchAll(t, databaseUrl, { DATABASE_LISTEN_URL: proxy.url })
    t.equal(lags.length, jobCount * watchersPerJob)
    report(t, lags)
  },
)
