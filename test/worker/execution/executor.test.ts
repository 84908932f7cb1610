import { defineOperation } from 'accepted'
import { createWorker, defineHandlers, JobFailed, RetryAfter } from 'accepted/worker'
import { sql } from 'kysely'
import pg from 'pg'
import { pino } from 'pino'
import t from 'tap'
import Type from 'typebox'
import type { Claim } from '../../../src/queue/claim.ts'
import { Claims } from '../../../src/queue/claims.ts'
import { sendHeartbeats } from '../../../src/queue/heartbeat.ts'
import { beginTransaction, findBlockedBackends } from '../../support/database.ts'
import { openJobs } from '../../support/jobs.ts'
import { until } from '../../support/until.ts'

const Word = Type.Object({ word: Type.String() })
const Result = Type.Object({ attempt: Type.Integer() })
const operation = defineOperation({
  name: 'word.say',
  input: Word,
  result: Result,
  retry: { limit: 2, delaySeconds: 0, backoff: false },
})
const operations = { operation }

t.test('A job whose handler throws is retried, and each failed attempt is recorded', async (t) => {
  const jobs = await openJobs(t, [operation])
  const id = await jobs.add(operation, { word: 'x' })
  await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        perform: async ({ attempt, maxAttempts }) => {
          if (attempt < maxAttempts) throw new Error(`fails at attempt ${attempt}: postgres://ann:secret@host/db`)
          return { attempt }
        },
      },
    }),
  )
  t.match(await jobs.ended(id), { status: 'succeeded', attempt: 3, result: { attempt: 3 }, payload: null, error: null })
  t.same(await jobs.query('select attempt, error from accepted.attempt order by attempt'), [
    { attempt: 1, error: { code: 'handler-error', message: 'fails at attempt 1: postgres://***@host/db' } },
    { attempt: 2, error: { code: 'handler-error', message: 'fails at attempt 2: postgres://***@host/db' } },
  ])
})

t.test('Handlers and their log get the traceparent of the request', async (t) => {
  const jobs = await openJobs(t, [operation])
  const requestTraceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`
  const traced = await jobs.add(operation, { word: 'x' }, { traceparent: requestTraceparent })
  const untraced = await jobs.add(operation, { word: 'x' })
  const calls: [string, string, string | undefined][] = []
  const lines: { msg: string; job: string; traceparent?: string }[] = []
  const log = pino({}, { write: (line: string) => void lines.push(JSON.parse(line)) })
  await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        perform: async ({ id, traceparent, attempt, log }) => {
          calls.push(['perform', id, traceparent])
          log.info('said')
          return { attempt }
        },
        settle: async (_trx, jobs) => {
          for (const job of jobs) calls.push(['settle', job.id, job.traceparent])
        },
      },
    }),
    { log },
  )
  for (const id of [traced, untraced]) {
    await jobs.ended(id)
    const expected = id === traced ? requestTraceparent : undefined
    t.same(
      calls.filter(([_handler, jobId]) => jobId === id),
      [
        ['perform', id, expected],
        ['settle', id, expected],
      ],
    )
    t.same(
      lines.filter(({ msg, job }) => msg === 'said' && job === id).map(({ traceparent }) => traceparent),
      [expected],
    )
  }
})

t.test('A job that waits for its retry has the status queued', async (t) => {
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
  t.match(await jobs.read(id), { status: 'queued', attempt: 1, ended_at: null })
  t.match(await jobs.query('select state::text, start_after > now() as "isDeferred" from accepted_queue.job'), [
    { state: 'retry', isDeferred: true },
  ])
})

t.test('A job fails after its last attempt, and keeps its payload', async (t) => {
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
    ...{ status: 'failed', attempt: 3, max_attempts: 3, payload: { word: 'x' } },
    error: { code: 'handler-error', message: 'never' },
  })
  t.same(await jobs.query('select state::text from accepted_queue.job'), [{ state: 'failed' }])
})

t.test('JobFailed fails the job without a retry, with its code, status and details', async (t) => {
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
    ...{ status: 'failed', attempt: 1 },
    error: { code: 'too-late', message: 'It is too late', status: 409, details: [{ hour: 25 }] },
  })
  t.same(await jobs.query('select state::text from accepted_queue.job'), [{ state: 'failed' }])
})

t.test('RetryAfter retries the job without spending an attempt', async (t) => {
  const jobs = await openJobs(t, [operation])
  const id = await jobs.add(operation, { word: 'x' })
  let runCount = 0
  await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        perform: async ({ attempt }) => {
          if (++runCount <= 5) throw new RetryAfter(0)
          return { attempt }
        },
      },
    }),
  )
  t.match(await jobs.ended(id), { status: 'succeeded', attempt: 1, result: { attempt: 1 } })
  t.equal(runCount, 6)
  t.same(await jobs.query('select from accepted.attempt'), [])
})

t.test(
  'An attempt that exceeds its timeout fails: its signal is aborted, and its later result has no effect',
  async (t) => {
    const quick = defineOperation({ name: 'word.hurry', input: Word, timeoutSeconds: 1, retry: { limit: 0 } })
    const jobs = await openJobs(t, [quick])
    const id = await jobs.add(quick, { word: 'x' })
    let abortReason: unknown
    await jobs.work(
      defineHandlers(
        { quick },
        {
          'word.hurry': {
            perform: ({ signal }) =>
              new Promise((resolve) => {
                signal.addEventListener('abort', () => {
                  abortReason = signal.reason
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
    t.match(await jobs.ended(id), { status: 'failed', error: { code: 'attempt-timeout', message: /longer than 1 s/ } })
    t.match(abortReason, { message: /longer than 1 s/ })
    t.same(await jobs.query('select from effect'), [])
  },
)

t.test('Progress is visible while the job runs, and never decreases', async (t) => {
  const jobs = await openJobs(t, [operation])
  const id = await jobs.add(operation, { word: 'x' })
  const mayReportAgain = Promise.withResolvers<void>()
  const mayEnd = Promise.withResolvers<void>()
  await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        perform: async (job) => {
          job.progress(60, 'most of it')
          await mayReportAgain.promise
          job.progress(40)
          await mayEnd.promise
          return { attempt: job.attempt }
        },
      },
    }),
  )
  const first = await until(async () => {
    const row = await jobs.read(id)
    return row.percent !== null && row
  })
  t.match(first, { status: 'running', percent: 60, message: 'most of it' })
  mayReportAgain.resolve()
  const second = await until(async () => {
    const row = await jobs.read(id)
    return row.sequence !== first.sequence && row
  })
  t.match(second, { percent: 60, message: 'most of it' })
  mayEnd.resolve()
  t.match(await jobs.ended(id), { status: 'succeeded', percent: 100 })
})

t.test(
  'A worker runs no more jobs at once than concurrency, and no more of a group than groupConcurrency',
  async (t) => {
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
    const max = { all: 0, group: 0 }
    await jobs.work(
      defineHandlers(
        { grouped },
        {
          'word.group': {
            concurrency: 3,
            perform: async ({ payload: { word } }) => {
              running.push(word)
              max.all = Math.max(max.all, running.length)
              max.group = Math.max(max.group, running.filter((other) => other === word).length)
              await new Promise((resolve) => setImmediate(resolve))
              running.splice(running.indexOf(word), 1)
            },
          },
        },
      ),
    )
    for (const id of ids) t.equal((await jobs.ended(id)).status, 'succeeded')
    t.ok(max.all <= 3, `${max.all} jobs ran at once`)
    t.ok(max.group <= 2, `${max.group} jobs of a group ran at once`)
  },
)

t.test('A scheduled job does not run before it is due, and a job of a higher priority runs first', async (t) => {
  const jobs = await openJobs(t, [operation])
  const order: string[] = []
  const scheduled = await jobs.add(operation, { word: 'later' }, { runAt: new Date(Date.now() + 3_600_000) })
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
  t.match(await jobs.read(scheduled), { status: 'queued', attempt: 0 })
  await jobs.query('update accepted_queue.job set start_after = now() where id = $1', [scheduled])
  t.match(await jobs.ended(scheduled), { status: 'succeeded' })
})

t.test('A job whose row is set to canceled while it runs stays canceled and has no effect', async (t) => {
  const jobs = await openJobs(t, [operation])
  const id = await jobs.add(operation, { word: 'x' })
  const mayEnd = Promise.withResolvers<void>()
  await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        perform: async ({ attempt }) => {
          await mayEnd.promise
          return { attempt }
        },
        settle: async (trx) => {
          await sql`insert into effect values (${id}, 'x')`.execute(trx)
        },
      },
    }),
  )
  await until(async () => (await jobs.read(id)).status === 'running')
  await jobs.query("update accepted.job set status = 'canceled', ended_at = now() where id = $1", [id])
  mayEnd.resolve()
  await until(async () => (await jobs.query('select from accepted_queue.job')).length === 0)
  t.match(await jobs.read(id), { status: 'canceled', result: null })
  t.same(await jobs.query('select from effect'), [])
})

t.test('A queue row without a job in accepted.job is deleted and never runs', async (t) => {
  const jobs = await openJobs(t, [operation])
  let runCount = 0
  await jobs.query(
    `insert into accepted_queue.job (name, data) values ('word.say', null), ('word.say', '{"payload": {}}')`,
  )
  await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        perform: async ({ attempt }) => {
          runCount += 1
          return { attempt }
        },
      },
    }),
  )
  await until(async () => (await jobs.query('select from accepted_queue.job')).length === 0)
  t.equal(runCount, 0)
})

t.test('The settle of a lost claim is rolled back', async (t) => {
  const jobs = await openJobs(t, [operation])
  const id = await jobs.add(operation, { word: 'x' })
  const mayEnd = Promise.withResolvers<void>()
  let settleCount = 0
  const worker = await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        perform: async ({ attempt }) => {
          await mayEnd.promise
          return { attempt }
        },
        settle: async (trx) => {
          await sql`insert into effect values (${id}, 'stale')`.execute(trx)
          settleCount += 1
        },
      },
    }),
  )
  await until(async () => (await jobs.read(id)).status === 'running')
  // Another worker has rescued the job and claimed it.
  await jobs.query('update accepted_queue.job set retry_count = retry_count + 1 where id = $1', [id])
  mayEnd.resolve()
  await worker.stop()
  t.equal(settleCount, 1)
  t.same(await jobs.query('select from effect'), [])
  t.match(await jobs.read(id), { status: 'running' })
  t.same(await jobs.query('select state::text from accepted_queue.job'), [{ state: 'active' }])
})

t.test('A claim that is lost before it begins is not performed, and does not change the job', async (t) => {
  const jobs = await openJobs(t, [operation])
  const id = await jobs.add(operation, { word: 'x' })
  const lock = await beginTransaction(t, jobs.database, `select from accepted.job where id = '${id}' for update`)
  let performCount = 0
  const worker = await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        perform: async ({ attempt }) => {
          performCount += 1
          return { attempt }
        },
      },
    }),
  )
  const begin = '%from accepted.job%for update%'
  await until(async () => (await findBlockedBackends(jobs.query, begin)).length > 0)
  // Another worker has rescued the job.
  await jobs.query("update accepted_queue.job set state = 'retry', start_after = 'infinity'")
  await lock.commit()
  await until(async () => /outcome="lost"\} 1$/m.test(await worker.metrics()))
  t.equal(performCount, 0)
  t.match(await jobs.read(id), { status: 'queued', attempt: 0 })
})

t.test('A locked queue row does not delay the heartbeats of other jobs', async (t) => {
  const other = defineOperation({ name: 'word.other', input: Word })
  const jobs = await openJobs(t, [operation, other])
  const active: { name: string; claims: Claim[] }[] = []
  for (const one of [operation, other]) {
    await jobs.add(one, { word: 'x' })
    active.push({ name: one.name, claims: await new Claims(jobs.database, jobs.boss, one).claim(1) })
  }
  await jobs.query("update accepted_queue.job set heartbeat_on = now() - interval '1 minute'")
  await beginTransaction(t, jobs.database, "select from accepted_queue.job where name = 'word.say' for update")
  await sendHeartbeats(jobs.database, active)
  t.same(
    await jobs.query(`
      select name, heartbeat_on > now() - interval '30 seconds' as "isRecent" from accepted_queue.job
      where state = 'active' order by name`),
    [
      { name: 'word.other', isRecent: true },
      { name: 'word.say', isRecent: false },
    ],
  )
})

t.test('A worker sends heartbeats although handlers use every connection of its pool', async (t) => {
  const jobs = await openJobs(t, [operation])
  const id = await jobs.add(operation, { word: 'x' })
  const mayEnd = Promise.withResolvers<void>()
  t.teardown(() => mayEnd.resolve())
  const worker = await jobs.work(
    defineHandlers(operations, ({ db }) => ({
      'word.say': {
        perform: ({ attempt }) =>
          db.connection().execute(async () => {
            await mayEnd.promise
            return { attempt }
          }),
      },
    })),
    { database: { url: jobs.database.options.url, poolSize: 1 } },
  )
  const readHeartbeat = async () =>
    (await jobs.query("select heartbeat_on from accepted_queue.job where state = 'active'"))[0]?.heartbeat_on
  const first = await until(readHeartbeat)
  await until(async () => (await readHeartbeat()) > first)
  t.equal(worker.health(), 'ready')
  mayEnd.resolve()
  t.match(await jobs.ended(id), { status: 'succeeded', attempt: 1 })
})

t.test('stop waits until running jobs have ended, and claims no more', async (t) => {
  const jobs = await openJobs(t, [operation])
  const id = await jobs.add(operation, { word: 'x' })
  const mayEnd = Promise.withResolvers<void>()
  const worker = await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        perform: async ({ attempt }) => {
          await mayEnd.promise
          return { attempt }
        },
      },
    }),
    { graceSeconds: 30 },
  )
  await until(async () => (await jobs.read(id)).status === 'running')
  const stopped = worker.stop()
  const next = await jobs.add(operation, { word: 'after' })
  mayEnd.resolve()
  await stopped
  t.match(await jobs.read(id), { status: 'succeeded' })
  t.match(await jobs.read(next), { status: 'queued', attempt: 0 })
})

t.test('A job that is claimed while the worker stops is released without being begun', async (t) => {
  const grouped = defineOperation({ name: 'word.say', input: Word, group: ({ word }) => word, groupConcurrency: 1 })
  const jobs = await openJobs(t, [grouped])
  const client = new pg.Client({ connectionString: jobs.database.options.url })
  await client.connect()
  t.teardown(() => client.end())
  // Claims of operations with groups wait for this lock.
  await client.query("begin; select pg_advisory_xact_lock(hashtext('accepted.claim'), hashtext('word.say'))")
  const id = await jobs.add(grouped, { word: 'x' })
  const perform = async () => void t.fail('the handler ran')
  const worker = await jobs.work(defineHandlers({ grouped }, { 'word.say': { perform } }))
  await until(async () => (await jobs.query("select from pg_locks where locktype = 'advisory' and not granted")).length)
  const stopped = worker.stop()
  await client.query('commit')
  await stopped
  t.match(await jobs.read(id), { status: 'queued', attempt: 0 })
  t.match(await jobs.query('select state, retry_count from accepted_queue.job'), [{ state: 'created', retry_count: 0 }])
})

t.test('A worker with the option operations runs only these', async (t) => {
  const other = defineOperation({ name: 'word.other', input: Word })
  const both = { operation, other }
  const jobs = await openJobs(t, Object.values(both))
  const [selected, unselected] = [await jobs.add(operation, { word: 'x' }), await jobs.add(other, { word: 'x' })]
  const handlers = defineHandlers(both, {
    'word.say': { perform: async ({ attempt }) => ({ attempt }) },
    'word.other': { settle: async () => {} },
  })
  await t.rejects(
    jobs.work(handlers, { operations: ['word.none'] }),
    new TypeError("There is no operation 'word.none'"),
  )
  await jobs.work(handlers, { operations: ['word.say'] })
  t.match(await jobs.ended(selected), { status: 'succeeded' })
  t.match(await jobs.read(unselected), { status: 'queued' })
})

t.test('A worker with an empty list of operations does not start', async (t) => {
  const jobs = await openJobs(t, [operation])
  const handlers = defineHandlers(operations, { 'word.say': { perform: async ({ attempt }) => ({ attempt }) } })
  await t.rejects(jobs.work(handlers, { operations: [] }), /operations is empty/)
})

t.test('A worker with a missing or surplus handler does not start', async (t) => {
  const jobs = await openJobs(t, [operation])
  const missing = {} as Parameters<typeof defineHandlers<typeof operations>>[1]
  await t.rejects(jobs.work(defineHandlers(operations, missing)), new TypeError('No handler is defined for word.say'))
  const surplus = { 'word.say': { perform: async () => ({ attempt: 1 }) }, 'word.more': {} }
  await t.rejects(
    jobs.work(defineHandlers(operations, () => surplus)),
    new TypeError('No operation is defined for the handler of word.more'),
  )
})

t.test('stop rejects when an onShutdown callback throws, after it has closed everything else', async (t) => {
  const jobs = await openJobs(t, [operation])
  const closed: string[] = []
  const worker = await createWorker({
    handlers: defineHandlers(operations, ({ onShutdown }) => {
      onShutdown(() => void closed.push('the printer'))
      onShutdown(() => {
        throw new Error('The mailer could not be closed')
      })
      return { 'word.say': { perform: async ({ attempt }) => ({ attempt }) } }
    }),
    database: { url: jobs.database.options.url, applicationName: 'closing' },
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

t.test('The delay before a retry doubles each time, with jitter, up to maxDelaySeconds', async (t) => {
  const slow = defineOperation({
    name: 'word.backoff',
    input: Word,
    retry: { limit: 5, delaySeconds: 100, backoff: true, maxDelaySeconds: 500 },
  })
  const jobs = await openJobs(t, [slow])
  const id = await jobs.add(slow, { word: 'x' })
  await jobs.work(
    defineHandlers(
      { slow },
      {
        'word.backoff': {
          perform: async () => {
            throw new Error('no')
          },
        },
      },
    ),
  )
  for (const [attempt, min, max] of [
    [1, 100, 200],
    [2, 200, 400],
    [3, 400, 500],
    [4, 500, 500],
  ] as const) {
    await until(async () => (await jobs.query('select from accepted.attempt')).length === attempt)
    const [{ delay }] = await jobs.query(`
      select extract(epoch from queue.start_after - job.updated_at)::float as delay
      from accepted.job join accepted_queue.job queue using (id)`)
    // Two statements of the transaction set these times, so they may differ by a moment.
    t.ok(delay > min - 1 && delay <= max, `${delay} s after attempt ${attempt}`)
    await jobs.query('update accepted_queue.job set start_after = now() where id = $1', [id])
  }
})

t.test('RetryAfter delays the job by its seconds and spends no attempt, also after a failed attempt', async (t) => {
  const jobs = await openJobs(t, [operation])
  const id = await jobs.add(operation, { word: 'x' })
  const attempts: number[] = []
  await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        perform: async ({ attempt }) => {
          attempts.push(attempt)
          if (attempts.length === 1) throw new Error('no')
          if (attempts.length === 2) throw new RetryAfter(3600)
          return { attempt }
        },
      },
    }),
  )
  await until(async () => (await jobs.query('select from accepted_queue.job where start_after > now()')).length === 1)
  t.match(await jobs.read(id), { status: 'queued', attempt: 2, ended_at: null })
  await jobs.query('update accepted_queue.job set start_after = now() where id = $1', [id])
  t.match(await jobs.ended(id), { status: 'succeeded', attempt: 2 })
  t.same(attempts, [1, 2, 2])
  t.same(await jobs.query('select attempt from accepted.attempt'), [{ attempt: 1 }])
})

t.test('RetryAfter beyond the expiry of the job counts as a failed attempt', async (t) => {
  const jobs = await openJobs(t, [operation])
  const id = await jobs.add(operation, { word: 'x' })
  await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        perform: async () => {
          throw new RetryAfter(8 * 24 * 3600)
        },
      },
    }),
  )
  t.match(await jobs.ended(id), { status: 'failed', attempt: 3, error: { message: 'Retry in 691200 s' } })
})

t.test('A failure is recorded for every thrown value, and for details that jsonb cannot store', async (t) => {
  const jobs = await openJobs(t, [operation])
  const thrown: Record<string, unknown> = {
    nothing: undefined,
    object: Object.create(null),
    'no text': Object.assign(new Error(), { message: 7 }),
    'not for jsonb': new JobFailed('unfit', 'a\0b', { details: [{ 'a\0b': '\ud800' }] }),
  }
  const ids = new Map<string, string>()
  for (const word of Object.keys(thrown)) ids.set(word, await jobs.add(operation, { word }))
  await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        perform: async ({ payload }) => {
          throw thrown[payload.word]
        },
      },
    }),
  )
  for (const word of ['nothing', 'object', 'no text']) {
    const { status, error } = await jobs.ended(ids.get(word) as string)
    t.same([status, error.message], ['failed', 'The handler threw a value that is not an Error'])
  }
  t.match(await jobs.ended(ids.get('not for jsonb') as string), {
    ...{ status: 'failed', attempt: 1 },
    error: { code: 'unfit', message: 'ab', details: [{ ab: '' }] },
  })
})

t.test('An error that Postgres refuses to store is replaced by a general error', async (t) => {
  const jobs = await openJobs(t, [operation])
  await jobs.query("alter table accepted.attempt add constraint tame check (error ->> 'message' <> 'wild')")
  const id = await jobs.add(operation, { word: 'x' })
  await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        perform: async ({ attempt }) => {
          if (attempt === 1) throw new Error('wild')
          return { attempt }
        },
      },
    }),
  )
  t.match(await jobs.ended(id), { status: 'succeeded', attempt: 2 })
  t.match(await jobs.query('select attempt, error from accepted.attempt'), [
    { attempt: 1, error: { code: 'handler-error', message: /could not be stored/ } },
  ])
})

t.test('A progress message with NUL is stored without it, and other reports are stored too', async (t) => {
  const jobs = await openJobs(t, [operation])
  const ids = [await jobs.add(operation, { word: 'a\u0001b' }), await jobs.add(operation, { word: 'plain' })]
  const mayEnd = Promise.withResolvers<void>()
  t.teardown(() => mayEnd.resolve())
  await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        perform: async ({ attempt, payload, progress }) => {
          progress(50, payload.word.replace('\u0001', '\0'))
          await mayEnd.promise
          return { attempt }
        },
      },
    }),
  )
  const rows = await until(async () => {
    const rows = await Promise.all(ids.map(jobs.read))
    return rows.every(({ percent }) => percent === 50) && rows
  })
  t.same(
    rows.map(({ message }) => message),
    ['ab', 'plain'],
  )
})

t.test('Progress outside 0 to 100 fails the attempt', async (t) => {
  const jobs = await openJobs(t, [operation])
  const ids = await Promise.all(['101', '-1', 'NaN'].map((word) => jobs.add(operation, { word })))
  await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        perform: async ({ attempt, payload, progress }) => {
          progress(Number(payload.word))
          return { attempt }
        },
      },
    }),
  )
  for (const id of ids) {
    t.match(await jobs.ended(id), { status: 'failed', percent: null, error: { message: /is not between 0 and 100/ } })
  }
})

t.test('No more jobs of a group run at once than groupConcurrency, over several workers', async (t) => {
  const grouped = defineOperation({ name: 'word.group', input: Word, group: ({ word }) => word, groupConcurrency: 2 })
  const jobs = await openJobs(t, [grouped])
  const words = Array.from({ length: 60 }, (_, index) => `group ${index % 3}`)
  const ids = await Promise.all(words.map((word) => jobs.add(grouped, { word })))
  const active: number[] = []
  const handlers = defineHandlers(
    { grouped },
    {
      'word.group': {
        perform: async ({ payload: { word } }) => {
          const [{ count }] = await jobs.query(
            "select count(*)::int from accepted_queue.job where state = 'active' and group_id = $1",
            [word],
          )
          active.push(count)
        },
      },
    },
  )
  await Promise.all(Array.from({ length: 3 }, () => jobs.work(handlers)))
  for (const id of ids) t.equal((await jobs.ended(id)).status, 'succeeded')
  t.equal(Math.max(...active), 2, 'the limit was reached and not exceeded')
})

t.test('The next job of a group starts when the previous one has ended, without waiting for a poll', async (t) => {
  const grouped = defineOperation({ name: 'word.turn', input: Word, group: ({ word }) => word, groupConcurrency: 1 })
  const jobs = await openJobs(t, [grouped])
  // With one poll per second, 100 jobs would take longer than `until` waits.
  for (let count = 0; count < 100; count++) await jobs.add(grouped, { word: 'x' })
  await jobs.work(defineHandlers({ grouped }, { 'word.turn': { perform: async () => {} } }))
  const statuses = await until(async () => {
    const rows = await jobs.query('select status from accepted.job where ended_at is not null')
    return rows.length === 100 && rows
  })
  t.ok(statuses.every(({ status }) => status === 'succeeded'))
})

t.test('A stopping worker releases a job that does not end in time, and its late result has no effect', async (t) => {
  const jobs = await openJobs(t, [operation])
  const id = await jobs.add(operation, { word: 'x' })
  const lateResult = Promise.withResolvers<{ attempt: number }>()
  let abortReason: unknown
  const worker = await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        perform: ({ signal }) => {
          signal.addEventListener('abort', () => {
            abortReason = signal.reason
          })
          return lateResult.promise
        },
        settle: async (trx) => {
          await sql`insert into effect values (${id}, 'late')`.execute(trx)
        },
      },
    }),
    { graceSeconds: 0 },
  )
  await until(async () => (await jobs.read(id)).status === 'running')
  await Promise.all([worker.stop(), worker.stop()])
  t.match(abortReason, { message: 'The worker is stopping' })
  lateResult.resolve({ attempt: 1 })
  t.match(await jobs.read(id), { status: 'queued', ended_at: null })
  t.same(await jobs.query('select state::text, retry_count from accepted_queue.job'), [
    { state: 'created', retry_count: 0 },
  ])

  await jobs.work(defineHandlers(operations, { 'word.say': { perform: async ({ attempt }) => ({ attempt }) } }))
  t.match(await jobs.ended(id), { status: 'succeeded', attempt: 1, result: { attempt: 1 } })
  t.same(await jobs.query('select from effect'), [])
  t.same(await jobs.query('select from accepted.attempt'), [])
})

t.test('A worker that gets a serialization failure while it starts tries again', async (t) => {
  const jobs = await openJobs(t, [operation])
  const url = new URL(jobs.database.options.url)
  url.searchParams.set('options', '-c default_transaction_isolation=repeatable\\ read')
  const conflict = await beginTransaction(
    t,
    jobs.database,
    'update accepted_queue.queue set retry_limit = retry_limit + 1',
  )
  const changed = defineOperation({ name: 'word.say', input: Word, result: Result, retry: { limit: 5 } })
  const handlers = defineHandlers({ changed }, { 'word.say': { perform: async ({ attempt }) => ({ attempt }) } })
  const starting = jobs.work(handlers, { database: url.href })
  await until(async () => (await findBlockedBackends(jobs.query)).length > 0)
  await conflict.commit()
  await starting
  const id = await jobs.add(operation, { word: 'x' })
  t.match(await jobs.ended(id), { status: 'succeeded' })
})
