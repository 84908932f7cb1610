/**
 * Plays the situation of each alert with the metrics of a real API and a real worker, and checks that the alert fires
 * then, and not otherwise. Run this test with `npm run test:alerts`. It is not part of `npm test`: if promtool is
 * missing, the test installs Debian's package of Prometheus, and that needs root.
 */
import { defineOperation } from 'accepted'
import { defineHandlers, JobFailed } from 'accepted/worker'
import t, { type Test } from 'tap'
import { serve } from '../support/api.ts'
import { metricsToken, readMetrics } from '../support/client.ts'
import { beginTransaction } from '../support/database.ts'
import { hasProgram, installPackage } from '../support/debian-package.ts'
import { openJobs } from '../support/jobs.ts'
import { until } from '../support/until.ts'
import { Word } from '../worker/support.ts'
import { checkRules, parseScrape, play, type Scrape } from './promtool.ts'

const work = defineOperation({ name: 'work.do', input: Word, retry: { limit: 0 } })
const operations = { work }

installPackage('prometheus', () => hasProgram('promtool'))

async function setUp(t: Test) {
  const api = await serve(t, { operations, metricsToken, authenticate: () => null })
  const jobs = await openJobs(t, [work], api.database.options.url)
  let release = () => {}
  const isReleased = new Promise<void>((resolve) => {
    release = resolve
  })
  const worker = await jobs.work(
    defineHandlers(operations, {
      'work.do': {
        concurrency: 1,
        perform: async ({ payload: { word } }) => {
          if (word === 'fail') throw new JobFailed('no', 'No')
          if (word === 'hang') await isReleased
        },
      },
    }),
  )
  t.teardown(() => release())
  let isWorking = true
  const scrape = async (): Promise<Scrape> => {
    const ofWorker = isWorking ? parseScrape(await worker.metrics(), 'worker') : new Map()
    return new Map([...parseScrape(await readMetrics(api.url), 'api'), ...ofWorker])
  }
  const end = async (words: readonly string[]) => {
    for (const word of words) await jobs.ended(await jobs.add(work, { word }))
  }
  return {
    ...{ api, jobs, scrape, end, release },
    /** Waits until scrapes show a situation. */
    scrapeWhen: (matches: (value: (series: string) => number | undefined) => boolean) =>
      until(async () => {
        const found = await scrape()
        return matches((series) => found.get(series)) && found
      }),
    stopWorker: async () => {
      await worker.stop()
      isWorking = false
    },
  }
}

/** The series of both processes. */
const ofApi = (name: string, ...labels: string[]) => `${name}{${[...labels, 'instance="api"'].join(',')}}`
const ofWork = 'operation="work.do"'

t.test('the rules are valid', async (t) => {
  t.equal(await checkRules(), undefined)
})

t.test('while jobs come and end, no alert fires', async (t) => {
  const { scrape, end } = await setUp(t)
  const first = await scrape()
  await end(['a', 'b', 'c', 'fail'])
  const phases = [
    { minutes: 30, scrape: first },
    { minutes: 30, scrape: await scrape() },
  ]
  await play(t, phases, [
    { at: 29, firing: [] },
    { at: 36, firing: [] },
    { at: 59, firing: [] },
  ])
})

t.test('AcceptedQueueAge fires for a job that waits, and not for a paused operation', async (t) => {
  const { jobs, scrape, scrapeWhen } = await setUp(t)
  const before = await scrape()
  await jobs.add(work, { word: 'hang' })
  await until(async () => (await jobs.query(`select from accepted.job where status = 'running'`)).length === 1)
  await jobs.add(work, { word: 'x' }, { runAt: new Date(Date.now() - 400_000) })
  const during = await scrapeWhen((value) => (value(ofApi('accepted_oldest_ready_job_age_seconds', ofWork)) ?? 0) > 300)
  const ages = /^accepted_oldest_ready_job_age_seconds\{operation="work.do"/
  const phases = [
    { minutes: 10, scrape: before },
    { minutes: 8, scrape: during, ages },
  ]
  await play(t, phases, [
    { at: 9, firing: [] },
    { at: 16, firing: ['AcceptedQueueAge work.do'] },
  ])
  await jobs.query(`select accepted.pause('work.do')`)
  const paused = await scrapeWhen((value) => value(ofApi('accepted_operation_paused', ofWork)) === 1)
  await play(t, [{ minutes: 40, scrape: paused, ages }], [{ at: 39, firing: [] }])
})

t.test('AcceptedFailureRate fires when many jobs fail', async (t) => {
  const { scrape, end } = await setUp(t)
  const before = await scrape()
  await end([...Array(8).fill('fail'), 'a', 'b'])
  const phases = [
    { minutes: 15, scrape: before },
    { minutes: 30, scrape: await scrape() },
  ]
  await play(t, phases, [
    { at: 14, firing: [] },
    { at: 22, firing: ['AcceptedFailureRate work.do'] },
    { at: 44, firing: [] },
  ])
})

t.test('AcceptedNothingCompletes fires when jobs wait and none ends', async (t) => {
  const { jobs, scrape, scrapeWhen, release, end } = await setUp(t)
  const before = await scrape()
  await jobs.add(work, { word: 'hang' })
  await until(async () => (await jobs.query(`select from accepted.job where status = 'running'`)).length === 1)
  const waiting = await jobs.add(work, { word: 'x' })
  const during = await scrapeWhen((value) => value(ofApi('accepted_jobs_ready', ofWork)) === 1)
  release()
  await jobs.ended(waiting)
  await end(['a'])
  const after = await scrapeWhen((value) => value(ofApi('accepted_jobs_ready', ofWork)) === 0)
  const phases = [
    { minutes: 20, scrape: before },
    { minutes: 20, scrape: during },
    { minutes: 20, scrape: after },
  ]
  await play(t, phases, [
    { at: 19, firing: [] },
    { at: 25, firing: [] },
    { at: 32, firing: ['AcceptedNothingCompletes work.do'] },
    { at: 50, firing: [] },
  ])
})

t.test('AcceptedWorkersGone fires when the last worker stops, and when nothing is scraped', async (t) => {
  const { scrape, scrapeWhen, stopWorker } = await setUp(t)
  const before = await scrape()
  await stopWorker()
  const during = await scrapeWhen((value) => value(ofApi('accepted_workers', 'status="ready"')) === 0)
  const phases = [
    { minutes: 20, scrape: before },
    { minutes: 20, scrape: during },
  ]
  await play(t, phases, [
    { at: 19, firing: [] },
    { at: 25, firing: ['AcceptedWorkersGone'] },
  ])
  const empty = [
    { minutes: 20, scrape: before },
    { minutes: 20, scrape: new Map() },
  ]
  await play(t, empty, [{ at: 35, firing: ['AcceptedWorkersGone'] }])
})

t.test('AcceptedXminHeld fires for a transaction that stays open', async (t) => {
  const { api, jobs, scrape, scrapeWhen } = await setUp(t)
  const before = await scrape()
  t.ok((before.get(ofApi('accepted_hidden_sessions')) ?? 0) > 0, 'sessions of other roles are hidden')
  const owner = `(select proowner::regrole::text from pg_proc where proname = 'database_metrics')`
  const grant = (command: string) => jobs.query(`do $$ begin execute format('${command}', ${owner}); end $$`)
  await grant('grant pg_read_all_stats to %s')
  t.teardown(() => grant('revoke pg_read_all_stats from %s'))
  const open = await beginTransaction(t, api.database, 'select pg_current_xact_id()')
  const ageOf = (value: (series: string) => number | undefined) =>
    value(ofApi('accepted_oldest_transaction_age_seconds')) ?? 0
  const first = await scrapeWhen((value) => value(ofApi('accepted_hidden_sessions')) === 0 && ageOf(value) > 0)
  const firstAge = ageOf((series) => first.get(series))
  const during = await scrapeWhen((value) => ageOf(value) > firstAge + 4)
  const phases = [
    { minutes: 20, scrape: before },
    { minutes: 30, scrape: during, ages: /^accepted_oldest_transaction_age_seconds/ },
  ]
  await play(t, phases, [
    { at: 19, firing: [] },
    { at: 25, firing: [] },
    { at: 40, firing: ['AcceptedXminHeld'] },
  ])
  await open.commit()
  await scrapeWhen((value) => ageOf(value) < firstAge)
})

t.test('AcceptedPartitionsMissing fires when tomorrow has no partition', async (t) => {
  const { jobs, scrape, scrapeWhen } = await setUp(t)
  const before = await scrape()
  t.equal(before.get(ofApi('accepted_partitions_ahead')), 3)
  const [{ name }] = await jobs.query(`select 'accepted.job_' || to_char(current_date + 1, 'YYYYMMDD') as name`)
  await jobs.query(`drop table ${name}`)
  const during = await scrapeWhen((value) => value(ofApi('accepted_partitions_ahead')) === 0)
  const phases = [
    { minutes: 20, scrape: before },
    { minutes: 30, scrape: during },
  ]
  await play(t, phases, [
    { at: 19, firing: [] },
    { at: 40, firing: ['AcceptedPartitionsMissing'] },
  ])
})
