import { defineOperation } from 'accepted'
import { defineHandlers, JobFailed, RetryAfter } from 'accepted/worker'
import { sql } from 'kysely'
import t from 'tap'
import Type from 'typebox'
import { openJobs } from '../support/jobs.ts'
import { until } from '../support/until.ts'

const Word = Type.Object({ word: Type.String() })
const Result = Type.Object({ attempt: Type.Integer() })
const operation = defineOperation({
  name: 'word.say',
  input: Word,
  result: Result,
  retry: { limit: 2, delaySeconds: 0, backoff: false },
})
const operations = { operation }

t.test('a handler that throws is tried again, and each failed attempt is on record', async (t) => {
  const jobs = await openJobs(t, [operation])
  const id = await jobs.add(operation, { word: 'x' })
  await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        perform: async ({ attempt, maxAttempts }) => {
          if (attempt < maxAttempts) throw new Error(`not at attempt ${attempt}: postgres://ann:secret@host/db`)
          return { attempt }
        },
      },
    }),
  )
  t.match(await jobs.ended(id), { state: 'succeeded', attempt: 3, result: { attempt: 3 }, payload: null, error: null })
  t.same(await jobs.query('select attempt, error from accepted.attempt order by attempt'), [
    { attempt: 1, error: { code: 'handler-error', message: 'not at attempt 1: postgres://***@host/db' } },
    { attempt: 2, error: { code: 'handler-error', message: 'not at attempt 2: postgres://***@host/db' } },
  ])
})

t.test('a job that waits for its retry is queued', async (t) => {
  const slow = defineOperation({ name: 'word.wait', input: Word, retry: { limit: 1, delaySeconds: 3600 } })
  const jobs = await openJobs(t, [slow])
  const id = await jobs.add(slow, { word: 'x' })
  await jobs.work(
    defineHandlers(
      { slow },
      {
        'word.wait': {
          perform: async () => {
            throw new Error('no')
          },
        },
      },
    ),
  )
  await until(async () => (await jobs.query('select from accepted.attempt')).length === 1)
  t.match(await jobs.read(id), { state: 'queued', attempt: 1, ended_at: null })
  t.match(await jobs.query('select state::text, start_after > now() as later from pgboss.job'), [
    { state: 'retry', later: true },
  ])
})

t.test('after its last attempt the job has failed, and keeps its payload', async (t) => {
  const jobs = await openJobs(t, [operation])
  const id = await jobs.add(operation, { word: 'x' })
  await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        perform: async () => {
          throw new Error('never')
        },
      },
    }),
  )
  t.match(await jobs.ended(id), {
    ...{ state: 'failed', attempt: 3, max_attempts: 3, payload: { word: 'x' } },
    error: { code: 'handler-error', message: 'never' },
  })
  t.same(await jobs.query('select state::text from pgboss.job'), [{ state: 'failed' }])
})

t.test('JobFailed fails at once, with its code, status and details', async (t) => {
  const jobs = await openJobs(t, [operation])
  const id = await jobs.add(operation, { word: 'x' })
  await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        perform: async () => {
          throw new JobFailed('too-late', 'It is too late', { status: 409, details: [{ hour: 25 }] })
        },
      },
    }),
  )
  t.match(await jobs.ended(id), {
    ...{ state: 'failed', attempt: 1 },
    error: { code: 'too-late', message: 'It is too late', status: 409, details: [{ hour: 25 }] },
  })
  t.same(await jobs.query('select state::text from pgboss.job'), [{ state: 'failed' }])
})

t.test('RetryAfter comes back later without spending an attempt', async (t) => {
  const jobs = await openJobs(t, [operation])
  const id = await jobs.add(operation, { word: 'x' })
  let runs = 0
  await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        perform: async ({ attempt }) => {
          if (++runs <= 5) throw new RetryAfter(0)
          return { attempt }
        },
      },
    }),
  )
  t.match(await jobs.ended(id), { state: 'succeeded', attempt: 1, result: { attempt: 1 } })
  t.equal(runs, 6)
  t.same(await jobs.query('select from accepted.attempt'), [])
})

t.test(
  'an attempt that takes too long is over: its signal aborts, and what it does later is of no effect',
  async (t) => {
    const quick = defineOperation({ name: 'word.hurry', input: Word, timeoutSeconds: 1, retry: { limit: 0 } })
    const jobs = await openJobs(t, [quick])
    const id = await jobs.add(quick, { word: 'x' })
    let aborted: unknown
    await jobs.work(
      defineHandlers(
        { quick },
        {
          'word.hurry': {
            perform: ({ signal }) =>
              new Promise((resolve) => {
                signal.addEventListener('abort', () => {
                  aborted = signal.reason
                  resolve('too late')
                })
              }),
            settle: async (trx) => {
              await sql`insert into effect values (${id}, 'late')`.execute(trx)
            },
          },
        },
      ),
    )
    t.match(await jobs.ended(id), { state: 'failed', error: { code: 'attempt-timeout', message: /longer than 1 s/ } })
    t.match(aborted, { message: /longer than 1 s/ })
    t.same(await jobs.query('select from effect'), [])
  },
)

t.test('progress is seen while the job runs, and never goes back', async (t) => {
  const jobs = await openJobs(t, [operation])
  const id = await jobs.add(operation, { word: 'x' })
  let go = () => {}
  await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        perform: async (job) => {
          job.progress(60, 'most of it')
          await new Promise<void>((resolve) => {
            go = resolve
          })
          job.progress(40)
          await new Promise<void>((resolve) => {
            go = resolve
          })
          return { attempt: job.attempt }
        },
      },
    }),
  )
  const seen = await until(async () => {
    const row = await jobs.read(id)
    return row.percent !== null && row
  })
  t.match(seen, { state: 'running', percent: 60, message: 'most of it' })
  go()
  const later = await until(async () => {
    const row = await jobs.read(id)
    return row.sequence !== seen.sequence && row
  })
  t.match(later, { percent: 60, message: 'most of it' })
  go()
  t.match(await jobs.ended(id), { state: 'succeeded', percent: 100 })
})

t.test('no more run at once than the concurrency says, and no more of a group than groupConcurrency', async (t) => {
  const grouped = defineOperation({
    name: 'word.group',
    input: Word,
    group: ({ word }) => word,
    groupConcurrency: 2,
  })
  const jobs = await openJobs(t, [grouped])
  const ids = await Promise.all(
    ['a', 'b', 'a', 'b', 'a', 'b', 'a', 'b', 'a', 'a'].map((word) => jobs.add(grouped, { word })),
  )
  const running: string[] = []
  const most = { all: 0, group: 0 }
  await jobs.work(
    defineHandlers(
      { grouped },
      {
        'word.group': {
          concurrency: 3,
          perform: async ({ payload: { word } }) => {
            running.push(word)
            most.all = Math.max(most.all, running.length)
            most.group = Math.max(most.group, running.filter((other) => other === word).length)
            await new Promise((resolve) => setImmediate(resolve))
            running.splice(running.indexOf(word), 1)
          },
        },
      },
    ),
  )
  for (const id of ids) t.equal((await jobs.ended(id)).state, 'succeeded')
  t.ok(most.all <= 3 && most.group <= 2, JSON.stringify(most))
})

t.test('a deferred job is not run early, and the higher priority goes first', async (t) => {
  const jobs = await openJobs(t, [operation])
  const order: string[] = []
  const later = await jobs.add(operation, { word: 'later' }, { runAt: new Date(Date.now() + 3_600_000) })
  const low = await jobs.add(operation, { word: 'low' })
  const high = await jobs.add(operation, { word: 'high' }, { priority: 10 })
  await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        concurrency: 1,
        perform: async ({ attempt, payload }) => {
          order.push(payload.word)
          return { attempt }
        },
      },
    }),
  )
  await jobs.ended(low)
  await jobs.ended(high)
  t.same(order, ['high', 'low'])
  t.match(await jobs.read(later), { state: 'queued', attempt: 0 })
  await jobs.query('update pgboss.job set start_after = now() where id = $1', [later])
  t.match(await jobs.ended(later), { state: 'succeeded' })
})

t.test('a job that is canceled while it runs stays canceled, and has no effect', async (t) => {
  const jobs = await openJobs(t, [operation])
  const id = await jobs.add(operation, { word: 'x' })
  let go = () => {}
  await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        perform: async ({ attempt }) => {
          await new Promise<void>((resolve) => {
            go = resolve
          })
          return { attempt }
        },
        settle: async (trx) => {
          await sql`insert into effect values (${id}, 'x')`.execute(trx)
        },
      },
    }),
  )
  await until(async () => (await jobs.read(id)).state === 'running')
  await jobs.query("update accepted.job set state = 'canceled', ended_at = now() where id = $1", [id])
  go()
  await until(async () => (await jobs.query("select from pgboss.job where state = 'completed'")).length === 1)
  t.match(await jobs.read(id), { state: 'canceled', result: null })
  t.same(await jobs.query('select from effect'), [])
})

t.test('a row in the queue without a record never runs', async (t) => {
  const jobs = await openJobs(t, [operation])
  let runs = 0
  await jobs.query(`insert into pgboss.job (name, data) values ('word.say', null), ('word.say', '{"payload": {}}')`)
  await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        perform: async ({ attempt }) => {
          runs += 1
          return { attempt }
        },
      },
    }),
  )
  await until(async () => (await jobs.query("select from pgboss.job where state = 'completed'")).length === 2)
  t.equal(runs, 0)
})

t.test('a settle whose claim another worker has is rolled back', async (t) => {
  const jobs = await openJobs(t, [operation])
  const id = await jobs.add(operation, { word: 'x' })
  let go = () => {}
  let settled = 0
  await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        perform: async ({ attempt }) => {
          await new Promise<void>((resolve) => {
            go = resolve
          })
          return { attempt }
        },
        settle: async (trx) => {
          await sql`insert into effect values (${id}, 'stale')`.execute(trx)
          settled += 1
        },
      },
    }),
  )
  await until(async () => (await jobs.read(id)).state === 'running')
  // What a sweep and another worker's claim leave behind.
  await jobs.query('update pgboss.job set retry_count = retry_count + 1 where id = $1', [id])
  go()
  await until(() => settled === 1)
  await until(
    async () =>
      (
        await jobs.query(
          "select from pg_stat_activity where state = 'idle in transaction' and datname = current_database()",
        )
      ).length === 0,
  )
  t.same(await jobs.query('select from effect'), [])
  t.match(await jobs.read(id), { state: 'running' })
  t.same(await jobs.query('select state::text from pgboss.job'), [{ state: 'active' }])
})

t.test('stop waits for what runs', async (t) => {
  const jobs = await openJobs(t, [operation])
  const id = await jobs.add(operation, { word: 'x' })
  let go = () => {}
  const worker = await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        perform: async ({ attempt }) => {
          await new Promise<void>((resolve) => {
            go = resolve
          })
          return { attempt }
        },
      },
    }),
    { graceSeconds: 30 },
  )
  await until(async () => (await jobs.read(id)).state === 'running')
  const stopped = worker.stop()
  const next = await jobs.add(operation, { word: 'after' })
  go()
  await stopped
  t.match(await jobs.read(id), { state: 'succeeded' })
  t.match(await jobs.read(next), { state: 'queued', attempt: 0 })
})

t.test('a worker may run some of the operations only', async (t) => {
  const other = defineOperation({ name: 'word.other', input: Word })
  const both = { operation, other }
  const jobs = await openJobs(t, Object.values(both))
  const [mine, others] = [await jobs.add(operation, { word: 'x' }), await jobs.add(other, { word: 'x' })]
  const handlers = defineHandlers(both, {
    'word.say': { perform: async ({ attempt }) => ({ attempt }) },
    'word.other': { settle: async () => {} },
  })
  await t.rejects(jobs.work(handlers, { only: ['word.none'] }), /There is no operation word\.none/)
  await jobs.work(handlers, { only: ['word.say'] })
  t.match(await jobs.ended(mine), { state: 'succeeded' })
  t.match(await jobs.read(others), { state: 'queued' })
})

t.test('a missing or surplus handler stops the start', async (t) => {
  const jobs = await openJobs(t, [operation])
  const missing = {} as Parameters<typeof defineHandlers<typeof operations>>[1]
  await t.rejects(jobs.work(defineHandlers(operations, missing)), /no handler for word\.say/)
  const surplus = { 'word.say': { perform: async () => ({ attempt: 1 }) }, 'word.more': {} }
  await t.rejects(jobs.work(defineHandlers(operations, () => surplus)), /a handler but no operation for word\.more/)
})
