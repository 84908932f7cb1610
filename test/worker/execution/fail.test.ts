import { defineOperation } from 'accepted'
import { defineHandlers, JobFailed, RetryAfter } from 'accepted/worker'
import { sql } from 'kysely'
import { pino } from 'pino'
import t from 'tap'
import Type from 'typebox'
import { openJobs } from '../../support/jobs.ts'
import { until } from '../../support/until.ts'
import { handlersFor, Word } from '../support.ts'

const say = defineOperation({
  name: 'word.say',
  input: Word,
  result: Type.Object({ attempt: Type.Integer() }),
  retry: { limit: 2, delaySeconds: 0, backoff: false },
})

/** A handler that fails every attempt. */
const failingWith = (error: Error) => ({
  perform: async () => {
    throw error
  },
})

t.test('a job whose handler throws is retried, and each failed attempt is recorded', async (t) => {
  const jobs = await openJobs(t, [say])
  const id = await jobs.add(say, { word: 'x' })
  await jobs.work(
    handlersFor(say, {
      perform: async ({ attempt, maxAttempts }) => {
        if (attempt < maxAttempts) throw new Error(`fails at attempt ${attempt}: postgres://ann:secret@host/db`)
        return { attempt }
      },
    }),
  )
  t.match(await jobs.ended(id), { status: 'succeeded', attempt: 3, result: { attempt: 3 }, payload: null, error: null })
  t.same(await jobs.query('select attempt, error from accepted.attempt order by attempt'), [
    { attempt: 1, error: { code: 'handler-error', message: 'fails at attempt 1: postgres://***@host/db' } },
    { attempt: 2, error: { code: 'handler-error', message: 'fails at attempt 2: postgres://***@host/db' } },
  ])
})

t.test('a job that waits for its retry has the status queued', async (t) => {
  const slow = defineOperation({ name: 'word.wait', input: Word, retry: { limit: 1, delaySeconds: 3600 } })
  const jobs = await openJobs(t, [slow])
  const id = await jobs.add(slow, { word: 'x' })
  await jobs.work(handlersFor(slow, failingWith(new Error('no'))))
  await until(async () => (await jobs.query('select from accepted.attempt')).length === 1)
  t.match(await jobs.read(id), { status: 'queued', attempt: 1, ended_at: null })
  t.match(await jobs.query('select state::text, start_after > now() as "isDeferred" from accepted_queue.job'), [
    { state: 'retry', isDeferred: true },
  ])
})

t.test('the delay before a retry doubles each time, with jitter, up to maxDelaySeconds', async (t) => {
  const slow = defineOperation({
    name: 'word.backoff',
    input: Word,
    retry: { limit: 5, delaySeconds: 100, backoff: true, maxDelaySeconds: 500 },
  })
  const jobs = await openJobs(t, [slow])
  const id = await jobs.add(slow, { word: 'x' })
  await jobs.work(handlersFor(slow, failingWith(new Error('no'))))
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
    // Two statements set these times, so the difference may be slightly below the delay.
    t.ok(delay > min - 1 && delay <= max, `the delay after attempt ${attempt} is ${delay} s`)
    await jobs.query('update accepted_queue.job set start_after = now() where id = $1', [id])
  }
})

t.test('a job fails when its last attempt fails, and keeps its payload', async (t) => {
  const jobs = await openJobs(t, [say])
  const id = await jobs.add(say, { word: 'x' })
  await jobs.work(handlersFor(say, failingWith(new Error('never'))))
  t.match(await jobs.ended(id), {
    ...{ status: 'failed', attempt: 3, max_attempts: 3, payload: { word: 'x' } },
    error: { code: 'handler-error', message: 'never' },
  })
  t.same(await jobs.query('select state::text from accepted_queue.job'), [{ state: 'failed' }])
})

t.test('JobFailed fails the job without a retry, and the job gets its code, status and details', async (t) => {
  const jobs = await openJobs(t, [say])
  const id = await jobs.add(say, { word: 'x' })
  await jobs.work(
    handlersFor(
      say,
      failingWith(new JobFailed('too-late', 'It is too late', { status: 409, details: [{ hour: 25 }] })),
    ),
  )
  t.match(await jobs.ended(id), {
    ...{ status: 'failed', attempt: 1 },
    error: { code: 'too-late', message: 'It is too late', status: 409, details: [{ hour: 25 }] },
  })
  t.same(await jobs.query('select state::text from accepted_queue.job'), [{ state: 'failed' }])
})

t.test('RetryAfter retries the job without using up an attempt', async (t) => {
  const jobs = await openJobs(t, [say])
  const id = await jobs.add(say, { word: 'x' })
  let runCount = 0
  await jobs.work(
    handlersFor(say, {
      perform: async ({ attempt }) => {
        if (++runCount <= 5) throw new RetryAfter(0)
        return { attempt }
      },
    }),
  )
  t.match(await jobs.ended(id), { status: 'succeeded', attempt: 1, result: { attempt: 1 } })
  t.equal(runCount, 6)
  t.same(await jobs.query('select from accepted.attempt'), [])
})

t.test('after a failed attempt, RetryAfter delays the job by the given seconds and uses up no attempt', async (t) => {
  const jobs = await openJobs(t, [say])
  const id = await jobs.add(say, { word: 'x' })
  const attempts: number[] = []
  await jobs.work(
    handlersFor(say, {
      perform: async ({ attempt }) => {
        attempts.push(attempt)
        if (attempts.length === 1) throw new Error('no')
        if (attempts.length === 2) throw new RetryAfter(3600)
        return { attempt }
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
  const jobs = await openJobs(t, [say])
  const id = await jobs.add(say, { word: 'x' })
  await jobs.work(handlersFor(say, failingWith(new RetryAfter(8 * 24 * 3600))))
  t.match(await jobs.ended(id), { status: 'failed', attempt: 3, error: { message: 'Retry in 691200 s' } })
})

t.test('when the database connection that perform uses breaks, no attempt is used up', async (t) => {
  const once = defineOperation({ name: 'word.once', input: Word, retry: { limit: 0 } })
  const jobs = await openJobs(t, [once])
  const id = await jobs.add(once, { word: 'a' })
  let runCount = 0
  await jobs.work(
    defineHandlers({ once }, ({ db }) => ({
      'word.once': {
        perform: async () => {
          if (++runCount === 1) await sql`select pg_terminate_backend(pg_backend_pid())`.execute(db)
        },
      },
    })),
  )
  t.match(await jobs.ended(id), { status: 'succeeded', attempt: 1, max_attempts: 1 })
})

t.test('a failure is recorded for any thrown value, even if its details cannot be stored as jsonb', async (t) => {
  const jobs = await openJobs(t, [say])
  const thrown: Record<string, unknown> = {
    nothing: undefined,
    object: Object.create(null),
    'no text': Object.assign(new Error(), { message: 7 }),
    'not for jsonb': new JobFailed('unfit', 'a\0b', { details: [{ 'a\0b': '\ud800' }] }),
  }
  const ids = new Map<string, string>()
  for (const word of Object.keys(thrown)) ids.set(word, await jobs.add(say, { word }))
  await jobs.work(
    handlersFor(say, {
      perform: async ({ payload }) => {
        throw thrown[payload.word]
      },
    }),
  )
  for (const word of ['nothing', 'object', 'no text']) {
    const { status, error } = await jobs.ended(ids.get(word) as string)
    t.same([status, error.message], ['failed', 'A value that is not an Error was thrown'])
  }
  t.match(await jobs.ended(ids.get('not for jsonb') as string), {
    ...{ status: 'failed', attempt: 1 },
    error: { code: 'unfit', message: 'ab', details: [{ ab: '' }] },
  })
})

t.test(
  'a failed attempt is logged with the delay before its retry; only an unexpected failure has a stack',
  async (t) => {
    const jobs = await openJobs(t, [say])
    const lines: Record<string, unknown>[] = []
    const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line)) })
    const errors: Record<string, (attempt: number) => Error> = {
      plain: (attempt) => new TypeError(`no luck ${attempt}`),
      decided: () => new JobFailed('declined', 'The card was declined'),
      later: () => new RetryAfter(3600),
    }
    const ids: Record<string, string> = {}
    for (const word of Object.keys(errors)) ids[word] = await jobs.add(say, { word })
    await jobs.work(
      handlersFor(say, {
        perform: async ({ payload, attempt }) => {
          throw errors[payload.word]?.(attempt)
        },
      }),
      { log },
    )
    const linesOf = (word: string) => lines.filter(({ job }) => job === ids[word])
    await until(() => linesOf('plain').length === 3 && linesOf('decided').length === 1 && linesOf('later').length === 1)
    const retried = { level: 30, maxAttempts: 3, msg: 'Attempt failed; retrying in 0 s', err: undefined }
    t.match(linesOf('plain'), [
      { ...retried, attempt: 1, error: { code: 'handler-error', message: 'no luck 1' } },
      { ...retried, attempt: 2, error: { code: 'handler-error', message: 'no luck 2' } },
      {
        level: 50,
        attempt: 3,
        msg: 'Job failed; no attempts are left',
        err: { type: 'TypeError', stack: /fail\.test/ },
      },
    ])
    t.match(linesOf('decided'), [
      { level: 30, msg: 'Job failed, as its handler decided', error: { code: 'declined' }, err: undefined },
    ])
    t.match(linesOf('later'), [
      { level: 30, msg: 'Attempt ended and does not count; retrying in 3600 s', err: undefined },
    ])
  },
)
