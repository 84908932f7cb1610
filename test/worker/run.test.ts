import { defineOperation } from 'accepted'
import { createWorker, defineHandlers, JobFailed, RetryAfter } from 'accepted/worker'
import { sql } from 'kysely'
import pg from 'pg'
import { pino } from 'pino'
import t from 'tap'
import Type from 'typebox'
import { type Claim, createClaims } from '../../worker/claim.ts'
import { touch } from '../../worker/vital-signs.ts'
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

t.test('the trace of the request goes with its job, into the handlers and their log', async (t) => {
  const jobs = await openJobs(t, [operation])
  const trace = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`
  const traced = await jobs.add(operation, { word: 'x' }, { trace })
  const untraced = await jobs.add(operation, { word: 'x' })
  const seen: [string, string, string | undefined][] = []
  const lines: { msg: string; job: string; traceparent?: string }[] = []
  const log = pino({}, { write: (line: string) => void lines.push(JSON.parse(line)) })
  await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        perform: async ({ id, traceparent, attempt, log }) => {
          seen.push(['perform', id, traceparent])
          log.info('said')
          return { attempt }
        },
        settle: async (_trx, jobs) => {
          for (const job of jobs) seen.push(['settle', job.id, job.traceparent])
        },
      },
    }),
    { log },
  )
  for (const id of [traced, untraced]) {
    await jobs.ended(id)
    const expected = id === traced ? trace : undefined
    t.same(
      seen.filter(([_where, of]) => of === id),
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
  const worker = await jobs.work(
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
  await worker.stop()
  t.equal(settled, 1)
  t.same(await jobs.query('select from effect'), [])
  t.match(await jobs.read(id), { state: 'running' })
  t.same(await jobs.query('select state::text from pgboss.job'), [{ state: 'active' }])
})

t.test('a claim that was lost before it could be begun is not performed, and its record is not touched', async (t) => {
  const jobs = await openJobs(t, [operation])
  const id = await jobs.add(operation, { word: 'x' })
  const holder = await jobs.database.pool.connect()
  t.teardown(() => holder.release(true))
  await holder.query('begin')
  await holder.query('select from accepted.job where id = $1 for update', [id])
  let performed = 0
  const worker = await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        perform: async ({ attempt }) => {
          performed += 1
          return { attempt }
        },
      },
    }),
  )
  const begins = `select from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock' and query like '%from accepted.job%for update%'`
  await until(async () => (await jobs.query(begins)).length > 0)
  // As by others who found this one silent: it waits for its next attempt.
  await jobs.query("update pgboss.job set state = 'retry', start_after = 'infinity'")
  await holder.query('commit')
  await until(async () => /outcome="lost"\} 1$/m.test(await worker.metrics()))
  t.equal(performed, 0)
  t.match(await jobs.read(id), { state: 'queued', attempt: 0 })
})

t.test('a row that somebody has locked keeps no other job from being said to be alive', async (t) => {
  const other = defineOperation({ name: 'word.other', input: Word })
  const jobs = await openJobs(t, [operation, other])
  const held = [operation, other].map(({ name }) => ({ name, claims: [] as Claim[] }))
  for (const [index, one] of [operation, other].entries()) {
    await jobs.add(one, { word: 'x' })
    held[index]?.claims.push(...(await createClaims(jobs.database, jobs.boss, one).claim(1)))
  }
  await jobs.query("update pgboss.job set heartbeat_on = now() - interval '1 minute'")
  const holder = await jobs.database.pool.connect()
  t.teardown(() => holder.release(true))
  await holder.query("begin; select from pgboss.job where name = 'word.say' for update")
  await touch(jobs.database, held)
  t.same(
    await jobs.query(`
      select name, heartbeat_on > now() - interval '30 seconds' as "isAlive" from pgboss.job
      where state = 'active' order by name`),
    [
      { name: 'word.other', isAlive: true },
      { name: 'word.say', isAlive: false },
    ],
  )
})

t.test('handlers that use up the pool do not silence their worker', async (t) => {
  const jobs = await openJobs(t, [operation])
  const id = await jobs.add(operation, { word: 'x' })
  const go = Promise.withResolvers<void>()
  t.teardown(() => go.resolve())
  const worker = await jobs.work(
    defineHandlers(operations, ({ db }) => ({
      'word.say': {
        perform: ({ attempt }) =>
          db.connection().execute(async () => {
            await go.promise
            return { attempt }
          }),
      },
    })),
    { database: { url: jobs.database.options.url, poolSize: 1 } },
  )
  const heartbeat = "select heartbeat_on from pgboss.job where state = 'active'"
  const [{ heartbeat_on: first }] = await until(async () => {
    const rows = await jobs.query(heartbeat)
    return rows.length > 0 && rows
  })
  await until(async () => (await jobs.query(heartbeat))[0]?.heartbeat_on > first)
  t.equal(worker.health(), 'ready')
  go.resolve()
  t.match(await jobs.ended(id), { state: 'succeeded', attempt: 1 })
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

t.test('what a claim that was under way brings after stop is handed back, and not begun', async (t) => {
  const grouped = defineOperation({ name: 'word.say', input: Word, group: ({ word }) => word, groupConcurrency: 1 })
  const jobs = await openJobs(t, [grouped])
  const client = new pg.Client({ connectionString: jobs.database.options.url })
  await client.connect()
  t.teardown(() => client.end())
  // Claims of groups take turns.
  await client.query("begin; select pg_advisory_xact_lock(hashtext('accepted.claim'), hashtext('word.say'))")
  const id = await jobs.add(grouped, { word: 'x' })
  const perform = async () => void t.fail('was begun')
  const worker = await jobs.work(defineHandlers({ grouped }, { 'word.say': { perform } }))
  await until(async () => (await jobs.query("select from pg_locks where locktype = 'advisory' and not granted")).length)
  const stopped = worker.stop()
  await client.query('commit')
  await stopped
  t.match(await jobs.read(id), { state: 'queued', attempt: 0 })
  t.match(await jobs.query('select state, retry_count from pgboss.job'), [{ state: 'created', retry_count: 0 }])
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
  await t.rejects(jobs.work(handlers, { only: ['word.none'] }), new TypeError('There is no operation word.none'))
  await jobs.work(handlers, { only: ['word.say'] })
  t.match(await jobs.ended(mine), { state: 'succeeded' })
  t.match(await jobs.read(others), { state: 'queued' })
})

t.test('a worker for no operation at all does not start', async (t) => {
  const jobs = await openJobs(t, [operation])
  const handlers = defineHandlers(operations, { 'word.say': { perform: async ({ attempt }) => ({ attempt }) } })
  await t.rejects(jobs.work(handlers, { only: [] }), /only names no operation/)
})

t.test('a missing or surplus handler stops the start', async (t) => {
  const jobs = await openJobs(t, [operation])
  const missing = {} as Parameters<typeof defineHandlers<typeof operations>>[1]
  await t.rejects(jobs.work(defineHandlers(operations, missing)), new TypeError('There is no handler for word.say'))
  const surplus = { 'word.say': { perform: async () => ({ attempt: 1 }) }, 'word.more': {} }
  await t.rejects(
    jobs.work(defineHandlers(operations, () => surplus)),
    new TypeError('There is a handler but no operation for word.more'),
  )
})

t.test('a shutdown of the app’s own that fails is told, and keeps nothing else open', async (t) => {
  const jobs = await openJobs(t, [operation])
  const closed: string[] = []
  const worker = await createWorker({
    handlers: defineHandlers(operations, ({ onShutdown }) => {
      onShutdown(() => void closed.push('the printer'))
      onShutdown(() => {
        throw new Error('the mailer does not hang up')
      })
      return { 'word.say': { perform: async ({ attempt }) => ({ attempt }) } }
    }),
    database: { url: jobs.database.options.url, applicationName: 'closing' },
    log: pino({ level: 'silent' }),
    graceSeconds: 1,
  })
  await t.rejects(worker.stop(), new Error('the mailer does not hang up'))
  t.same(closed, ['the printer'])
  const open = () =>
    jobs.query(`
      select from pg_stat_activity
      where datname = current_database() and application_name in ('closing', 'closing vital')`)
  await until(async () => (await open()).length === 0)
})

t.test('the delay before a retry doubles each time, with jitter, up to its bound', async (t) => {
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
  for (const [attempt, least, most] of [
    [1, 100, 200],
    [2, 200, 400],
    [3, 400, 500],
    [4, 500, 500],
  ] as const) {
    await until(async () => (await jobs.query('select from accepted.attempt')).length === attempt)
    const [{ delay }] = await jobs.query(`
      select extract(epoch from queue.start_after - job.updated_at)::float as delay
      from accepted.job join pgboss.job queue using (id)`)
    // The two statements of the transaction are a moment apart.
    t.ok(delay > least - 1 && delay <= most, `${delay} s after attempt ${attempt}`)
    await jobs.query('update pgboss.job set start_after = now() where id = $1', [id])
  }
})

t.test('RetryAfter waits its time, and spends no attempt after a failed one either', async (t) => {
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
  await until(async () => (await jobs.query('select from pgboss.job where start_after > now()')).length === 1)
  t.match(await jobs.read(id), { state: 'queued', attempt: 2, ended_at: null })
  await jobs.query('update pgboss.job set start_after = now() where id = $1', [id])
  t.match(await jobs.ended(id), { state: 'succeeded', attempt: 2 })
  t.same(attempts, [1, 2, 2])
  t.same(await jobs.query('select attempt from accepted.attempt'), [{ attempt: 1 }])
})

t.test('RetryAfter beyond the time the job is kept counts as a failed attempt', async (t) => {
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
  t.match(await jobs.ended(id), { state: 'failed', attempt: 3, error: { message: 'Again in 691200 s' } })
})

t.test('whatever a handler throws, and whatever the details, the failure is on record', async (t) => {
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
    const { state, error } = await jobs.ended(ids.get(word) as string)
    t.same([state, error.message], ['failed', 'The handler threw something that is no Error'])
  }
  t.match(await jobs.ended(ids.get('not for jsonb') as string), {
    ...{ state: 'failed', attempt: 1 },
    error: { code: 'unfit', message: 'ab', details: [{ ab: '' }] },
  })
})

t.test('a failure that the database does not take is on record all the same, in other words', async (t) => {
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
  t.match(await jobs.ended(id), { state: 'succeeded', attempt: 2 })
  t.match(await jobs.query('select attempt, error from accepted.attempt'), [
    { attempt: 1, error: { code: 'handler-error', message: /could not be recorded/ } },
  ])
})

t.test('a report that cannot be written keeps nobody else from being seen', async (t) => {
  const jobs = await openJobs(t, [operation])
  const ids = [await jobs.add(operation, { word: 'a\u0001b' }), await jobs.add(operation, { word: 'plain' })]
  const hold = Promise.withResolvers<void>()
  t.teardown(() => hold.resolve())
  await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        perform: async ({ attempt, payload, progress }) => {
          progress(50, payload.word.replace('\u0001', '\0'))
          await hold.promise
          return { attempt }
        },
      },
    }),
  )
  const seen = await until(async () => {
    const rows = await Promise.all(ids.map(jobs.read))
    return rows.every(({ percent }) => percent === 50) && rows
  })
  t.same(
    seen.map(({ message }) => message),
    ['ab', 'plain'],
  )
})

t.test('progress that is no percentage is an error of the handler', async (t) => {
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
    t.match(await jobs.ended(id), { state: 'failed', percent: null, error: { message: /is not between 0 and 100/ } })
  }
})

t.test('no more of a group run at once than groupConcurrency, over several workers', async (t) => {
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
            "select count(*)::int from pgboss.job where state = 'active' and group_id = $1",
            [word],
          )
          active.push(count)
        },
      },
    },
  )
  await Promise.all(Array.from({ length: 3 }, () => jobs.work(handlers)))
  for (const id of ids) t.equal((await jobs.ended(id)).state, 'succeeded')
  t.equal(Math.max(...active), 2, 'the room there is was used, and no more')
})

t.test('the next of a group starts when the one before has ended, not when somebody looks again', async (t) => {
  const grouped = defineOperation({ name: 'word.turn', input: Word, group: ({ word }) => word, groupConcurrency: 1 })
  const jobs = await openJobs(t, [grouped])
  // Looking once a second, that is more of them than there is patience.
  for (let count = 0; count < 100; count++) await jobs.add(grouped, { word: 'x' })
  await jobs.work(defineHandlers({ grouped }, { 'word.turn': { perform: async () => {} } }))
  const states = await until(async () => {
    const rows = await jobs.query('select state from accepted.job where ended_at is not null')
    return rows.length === 100 && rows
  })
  t.ok(states.every(({ state }) => state === 'succeeded'))
})

t.test('what has not ended in time is handed back unspent when the worker stops, and comes to no effect', async (t) => {
  const jobs = await openJobs(t, [operation])
  const id = await jobs.add(operation, { word: 'x' })
  const late = Promise.withResolvers<{ attempt: number }>()
  let reason: unknown
  const worker = await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        perform: ({ signal }) => {
          signal.addEventListener('abort', () => {
            reason = signal.reason
          })
          return late.promise
        },
        settle: async (trx) => {
          await sql`insert into effect values (${id}, 'late')`.execute(trx)
        },
      },
    }),
    { graceSeconds: 0 },
  )
  await until(async () => (await jobs.read(id)).state === 'running')
  await Promise.all([worker.stop(), worker.stop()])
  t.match(reason, { message: 'The worker stops' })
  late.resolve({ attempt: 1 })
  t.match(await jobs.read(id), { state: 'queued', ended_at: null })
  t.same(await jobs.query('select state::text, retry_count from pgboss.job'), [{ state: 'created', retry_count: 0 }])

  await jobs.work(defineHandlers(operations, { 'word.say': { perform: async ({ attempt }) => ({ attempt }) } }))
  t.match(await jobs.ended(id), { state: 'succeeded', attempt: 1, result: { attempt: 1 } })
  t.same(await jobs.query('select from effect'), [])
  t.same(await jobs.query('select from accepted.attempt'), [])
})

t.test('a worker that loses a race while it starts tries again', async (t) => {
  const jobs = await openJobs(t, [operation])
  const url = new URL(jobs.database.options.url)
  url.searchParams.set('options', '-c default_transaction_isolation=repeatable\\ read')
  const other = await jobs.database.pool.connect()
  t.teardown(() => other.release(true))
  await other.query('begin')
  await other.query('update pgboss.queue set retry_limit = retry_limit + 1')
  const later = defineOperation({ name: 'word.say', input: Word, result: Result, retry: { limit: 5 } })
  const handlers = defineHandlers({ later }, { 'word.say': { perform: async ({ attempt }) => ({ attempt }) } })
  const starting = jobs.work(handlers, { database: url.href })
  await until(async () => (await jobs.query("select from pg_stat_activity where wait_event_type = 'Lock'")).length > 0)
  await other.query('commit')
  await starting
  const id = await jobs.add(operation, { word: 'x' })
  t.match(await jobs.ended(id), { state: 'succeeded' })
})
