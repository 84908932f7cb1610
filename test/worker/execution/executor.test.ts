import { defineOperation } from 'accepted'
import { pino } from 'pino'
import t from 'tap'
import { beginTransaction, findBlockedBackends } from '../../support/database.ts'
import { openJobs, writeEffects } from '../../support/jobs.ts'
import { until } from '../../support/until.ts'
import { handlersFor, Word } from '../support.ts'

const say = defineOperation({ name: 'word.say', input: Word, retry: { limit: 0 } })

t.test('an attempt fails at its timeout: its signal aborts, and its later result has no effect', async (t) => {
  const quick = defineOperation({ name: 'word.hurry', input: Word, timeoutSeconds: 1, retry: { limit: 0 } })
  const jobs = await openJobs(t, [quick])
  const id = await jobs.add(quick, { word: 'late' })
  let abortReason: unknown
  await jobs.work(
    handlersFor(quick, {
      perform: ({ signal }) =>
        new Promise((resolve) => {
          signal.addEventListener('abort', () => {
            abortReason = signal.reason
            resolve('too late')
          })
        }),
      settle: writeEffects,
    }),
  )
  t.match(await jobs.ended(id), { status: 'failed', error: { code: 'attempt-timeout', message: /longer than 1 s/ } })
  t.match(abortReason, { message: /longer than 1 s/ })
  t.same(await jobs.query('select from effect'), [])
})

t.test('a job with an invalid payload is not performed', async (t) => {
  const jobs = await openJobs(t, [say])
  const invalid = { word: 7 } as unknown as { word: string }
  const ids = [await jobs.add(say, invalid), await jobs.add(say, { word: 'a' })] as const
  const performed: unknown[] = []
  await jobs.work(handlersFor(say, { perform: async ({ payload }) => void performed.push(payload.word) }))
  t.match(await jobs.ended(ids[0]), { status: 'failed', error: { code: 'invalid-payload' } })
  t.match(await jobs.ended(ids[1]), { status: 'succeeded' })
  t.same(performed, ['a'])
})

t.test('a queue row without a job in accepted.job never runs, and is marked as failed in the queue', async (t) => {
  const jobs = await openJobs(t, [say])
  let runCount = 0
  await jobs.query(
    `insert into accepted_queue.job (id, name, data)
    select id, 'word.say', jsonb_build_object('job', id, 'payload', '{}'::jsonb)
    from (select accepted.uuid7() as id from generate_series(1, 2)) made`,
  )
  await jobs.work(
    handlersFor(say, {
      perform: async () => {
        runCount += 1
      },
    }),
  )
  const inQueue = `select state::text, output ->> 'code' as code from accepted_queue.job where name = 'word.say'`
  await until(async () => (await jobs.query(inQueue)).every(({ state }) => state === 'failed'))
  const failed = { state: 'failed', code: 'unknown-job' }
  t.same(await jobs.query(inQueue), [failed, failed])
  t.equal(runCount, 0)
})

t.test('when a claim is lost before its job begins, the job is neither performed nor changed', async (t) => {
  const jobs = await openJobs(t, [say])
  const id = await jobs.add(say, { word: 'x' })
  const lock = await beginTransaction(t, jobs.database, `select from accepted.job where id = '${id}' for update`)
  let performCount = 0
  const worker = await jobs.work(
    handlersFor(say, {
      perform: async () => {
        performCount += 1
      },
    }),
  )
  const begin = '%from accepted.job%for update%'
  await until(async () => (await findBlockedBackends(jobs.query, begin)).length > 0)
  // Another worker writes this when it rescues the job.
  await jobs.query("update accepted_queue.job set state = 'retry', start_after = 'infinity'")
  await lock.commit()
  await until(async () => /outcome="lost"\} 1$/m.test(await worker.metrics()))
  t.equal(performCount, 0)
  t.match(await jobs.read(id), { status: 'queued', attempt: 0 })
})

t.test(
  'when one of several claimed jobs cannot begin, only that job is released, and the other jobs run',
  async (t) => {
    const jobs = await openJobs(t, [say])
    const ids = [
      await jobs.add(say, { word: 'a' }),
      await jobs.add(say, { word: 'b' }),
      await jobs.add(say, { word: 'locked' }),
    ]
    const performed: string[] = []
    const mayEnd = Promise.withResolvers<void>()
    t.teardown(() => mayEnd.resolve())
    const lock = await beginTransaction(t, jobs.database, `select from accepted.job where id = '${ids[2]}' for update`)
    // With this timeout, the locked job cannot begin. Without it, the job would wait for the lock.
    await jobs.query(
      `do $$ begin execute format('alter database %I set statement_timeout = 3000', current_database()); end $$`,
    )
    const logged: string[] = []
    const log = pino({ level: 'warn' }, { write: (line: string) => void logged.push(JSON.parse(line).msg) })
    await jobs.work(
      handlersFor(say, {
        perform: async ({ payload }) => {
          performed.push(payload.word)
          await mayEnd.promise
        },
      }),
      { log },
    )
    await until(() => logged.some((message) => message.startsWith('Jobs could not begin')))
    t.same(performed.sort(), ['a', 'b'])
    for (const id of ids.slice(0, 2)) {
      t.match(await jobs.query('select state::text from accepted_queue.job where id = $1', [id]), [{ state: 'active' }])
    }
    await lock.commit()
    mayEnd.resolve()
    for (const id of ids) t.match(await jobs.ended(id), { status: 'succeeded', attempt: 1 })
    t.same(performed.sort(), ['a', 'b', 'locked'])
  },
)
