import { defineOperation } from 'accepted'
import { createWorker, defineHandlers } from 'accepted/worker'
import { pino } from 'pino'
import t from 'tap'
import { asRole, beginTransaction, findBlockedBackends } from '../support/database.ts'
import { openJobs } from '../support/jobs.ts'
import { until } from '../support/until.ts'
import { handlersFor, readSeries, Word } from './support.ts'

const say = defineOperation({ name: 'word.say', input: Word })

t.test('a worker with the option `operations` runs only jobs of these operations', async (t) => {
  const other = defineOperation({ name: 'word.other', input: Word })
  const both = { say, other }
  const jobs = await openJobs(t, Object.values(both))
  const [selected, unselected] = [await jobs.add(say, { word: 'x' }), await jobs.add(other, { word: 'x' })]
  const handlers = defineHandlers(both, {
    'word.say': { perform: async () => {} },
    'word.other': { settle: async () => {} },
  })
  await t.rejects(
    jobs.work(handlers, { operations: ['word.none'] }),
    new TypeError(
      "There is no operation 'word.none'. Choose among these: word.say, word.other, webhook.deliver, jobs.bulk",
    ),
  )
  await jobs.work(handlers, { operations: ['word.say'] })
  t.match(await jobs.ended(selected), { status: 'succeeded' })
  t.match(await jobs.read(unselected), { status: 'queued' })
})

t.test('a worker with an empty list of operations does not start', async (t) => {
  const jobs = await openJobs(t, [say])
  const handlers = handlersFor(say, { perform: async () => {} })
  await t.rejects(jobs.work(handlers, { operations: [] }), /operations is empty/)
})

t.test('a worker retries its start after a serialization failure', async (t) => {
  const jobs = await openJobs(t, [say])
  const url = new URL(jobs.database.options.url)
  url.searchParams.set('options', '-c default_transaction_isolation=repeatable\\ read')
  const conflict = await beginTransaction(
    t,
    jobs.database,
    'update accepted_queue.queue set retry_limit = retry_limit + 1',
  )
  const changed = defineOperation({ name: 'word.say', input: Word, retry: { limit: 5 } })
  const starting = jobs.work(handlersFor(changed, { perform: async () => {} }), { database: url.href })
  await until(async () => (await findBlockedBackends(jobs.query)).length > 0)
  await conflict.commit()
  await starting
  const id = await jobs.add(say, { word: 'x' })
  t.match(await jobs.ended(id), { status: 'succeeded' })
})

t.test('when an onShutdown callback throws, stop closes everything else and then rejects', async (t) => {
  const jobs = await openJobs(t, [say])
  const closed: string[] = []
  const worker = await createWorker({
    handlers: defineHandlers({ say }, ({ onShutdown }) => {
      onShutdown(() => void closed.push('the printer'))
      onShutdown(() => {
        throw new Error('The mailer could not be closed')
      })
      return { 'word.say': { perform: async () => {} } }
    }),
    database: asRole({ url: jobs.database.options.url, applicationName: 'closing' }, 'worker'),
    log: pino({ level: 'silent' }),
    graceSeconds: 1,
  })
  await t.rejects(worker.stop(), new Error('The mailer could not be closed'))
  t.same(closed, ['the printer'])
  const open = () =>
    jobs.query(`
      select from pg_stat_activity
      where datname = current_database() and application_name in ('closing', 'closing control')`)
  await until(async () => (await open()).length === 0)
})

t.test('a healthy worker logs when it starts, is ready, has run jobs, drains and has stopped', async (t) => {
  const jobs = await openJobs(t, [say])
  const lines: { level: number; msg: string }[] = []
  const log = pino({ level: 'info' }, { write: (line) => void lines.push(JSON.parse(line)) })
  const worker = await jobs.work(handlersFor(say, { perform: async () => {}, concurrency: 3 }), { log })
  const ids = [await jobs.add(say, { word: 'a' }), await jobs.add(say, { word: 'b' })]
  for (const id of ids) await jobs.ended(id)
  const running = 'accepted_jobs_running{operation="word.say"}'
  await until(async () => readSeries(await worker.metrics(), running) === 0)
  await worker.stop()
  const operations = {
    'word.say': { concurrency: 3 },
    'webhook.deliver': { concurrency: 100 },
    'jobs.bulk': { concurrency: 1 },
  }
  t.match(lines, [
    { level: 30, msg: 'Worker is starting', operations: ['word.say', 'webhook.deliver', 'jobs.bulk'] },
    { level: 30, msg: 'Worker is ready', operations },
    { level: 30, msg: /^Worker claims no more jobs/, running: 0, graceSeconds: 1 },
    { level: 30, msg: /^Attempts ended/, succeeded: 2, byOperation: { 'word.say': { succeeded: 2 } } },
    { level: 30, msg: 'Worker has stopped' },
  ])
})

t.test('a worker that runs no job logs no activity', async (t) => {
  const jobs = await openJobs(t, [say])
  const lines: string[] = []
  const log = pino({ level: 'info' }, { write: (line) => void lines.push(JSON.parse(line).msg) })
  const worker = await jobs.work(handlersFor(say, { perform: async () => {} }), { log })
  await worker.stop()
  t.equal(lines.length, 4)
  t.notOk(lines.some((line) => line.startsWith('Attempts')))
})
