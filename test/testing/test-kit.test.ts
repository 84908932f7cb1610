import { spawn } from 'node:child_process'
import { once as onceEmitted } from 'node:events'
import { join } from 'node:path'
import { defineOperation, defineSchedule, refuse } from 'accepted'
import { createTestKit, type Job, type TestKit } from 'accepted/testing'
import { defineHandlers, JobFailed, RetryAfter } from 'accepted/worker'
import { sql, type Transaction } from 'kysely'
import t from 'tap'
import Type from 'typebox'
import { config } from '../flow/fixtures/database.ts'
import flowHandlers from '../flow/fixtures/handlers.ts'
import * as flowOperations from '../flow/fixtures/operations.ts'
import { serverUrl } from '../support/database.ts'
import { startReceiver, verify } from '../support/receiver.ts'
import { until } from '../support/until.ts'

interface Tables {
  note: { id: string; text: string; owner: string }
}

const Word = Type.Object({ word: Type.String({ minLength: 1 }) })
const once = { limit: 0 }

const operations = {
  note: defineOperation({
    name: 'note.create',
    route: { method: 'POST', url: '/books/:book/notes' },
    params: Type.Object({ book: Type.String() }),
    input: Type.Object({ text: Type.String({ minLength: 1 }) }),
    payload: Type.Object({ noteId: Type.String() }),
    result: Type.Object({ from: Type.String() }),
    keepSeconds: 3_600,
    accept: async (trx: Transaction<Tables>, entries) => {
      const kept = entries.filter(({ input }) => input.text !== 'spam')
      const rows = kept.map(({ id, input, principal }) => ({ id, text: input.text, owner: principal }))
      if (rows.length > 0) await trx.insertInto('note').values(rows).execute()
      return entries.map(({ id, input, params }) =>
        input.text === 'spam'
          ? refuse(403, 'spam', `${params.book} takes no spam`)
          : { payload: { noteId: id }, resource: `/notes/${id}` },
      )
    },
  }),
  send: defineOperation({ name: 'word.send', input: Word, retry: { limit: 3, delaySeconds: 60, backoff: true } }),
  chain: defineOperation({ name: 'word.chain', input: Type.Object({ left: Type.Integer() }), retry: once }),
  family: defineOperation({ name: 'word.family', input: Word, retry: once }),
  wait: defineOperation({ name: 'word.wait', input: Word, retry: once }),
  hourly: defineOperation({ name: 'word.hourly', input: Word, limit: { rate: '1/1h' }, seal: ['/word'] }),
  digest: defineOperation({ name: 'digest.send', input: Type.Object({ at: Type.String() }), retry: once }),
}

const schedules = {
  nightly: defineSchedule({
    name: 'nightly',
    cron: '0 3 * * *',
    timezone: 'Europe/Berlin',
    operation: operations.digest,
    payload: (at) => ({ at: at.toISOString() }),
    missed: 'once',
  }),
}

/** Stands for a service that handlers call. */
class FakeService {
  readonly words: string[] = []
  readonly digests: string[] = []
  /** Errors of the next calls. */
  readonly errors: Error[] = []
  hang: Promise<void> | undefined
  readonly hasStarted = Promise.withResolvers<void>()

  async call(word: string): Promise<void> {
    this.words.push(word)
    const error = this.errors.shift()
    if (error) throw error
    await this.hang
  }
}

function createHandlers(service: FakeService) {
  return defineHandlers({ ...operations, ...schedules }, async ({ db }) => ({
    'note.create': {
      perform: async ({ payload }) => {
        const row = await db.selectFrom('note').selectAll().where('id', '=', payload.noteId).executeTakeFirstOrThrow()
        return { from: row.owner }
      },
    },
    'word.send': { perform: ({ payload }) => service.call(payload.word) },
    'word.chain': {
      settle: async (trx, jobs) => {
        for (const { payload, enqueue } of jobs) {
          if (payload.left > 0) await enqueue(trx, operations.chain, { left: payload.left - 1 })
          else await enqueue(trx, operations.send, { word: 'end of chain' })
        }
      },
    },
    'word.family': {
      settle: async (trx, jobs) => {
        for (const { payload, enqueue } of jobs) {
          for (const word of [`${payload.word} 1`, `${payload.word} 2`]) {
            await enqueue(trx, operations.send, { word }, { child: true })
          }
        }
      },
    },
    'word.wait': {
      perform: async () => {
        service.hasStarted.resolve()
        await service.hang
      },
    },
    'word.hourly': { perform: ({ payload }) => service.call(payload.word) },
    'digest.send': { perform: async ({ payload }) => void service.digests.push(payload.at) },
  }))
}

const database = serverUrl()
const migrations = new URL('./migrations/', import.meta.url)
// Shortly before 3 o'clock in Berlin, and before a day with a change to summer time.
const now = new Date('2026-03-27T01:30:00Z')
const service = new FakeService()
let kit: TestKit

t.before(async () => {
  kit = await createTestKit({ operations, handlers: createHandlers(service), database, migrations, now })
})
t.teardown(() => kit.close())
t.beforeEach(() => {
  service.words.length = 0
  service.digests.length = 0
})

t.test('submit sends a request through accept, and the worker runs its job', async (t) => {
  const job = await kit.submit(operations.note, { text: 'hello' }, { principal: 'ann ☂', params: { book: 'a/b' } })
  t.match(job, { operation: 'note.create', status: 'queued', attempt: 0 })
  t.same(await kit.db.selectFrom('note').select(['text', 'owner']).execute(), [{ text: 'hello', owner: 'ann ☂' }])
  await t.rejects(kit.expectJob(job.id, { status: 'succeeded' }), {
    name: 'AssertionError',
    message:
      /expected succeeded, but it is queued: call kit.runUntilIdle\(\) first\n {2}\+0.000 s {2}accepted: by ann ☂\n/,
  })
  await kit.runUntilIdle()
  const ended = await kit.expectJob(job.id, { status: 'succeeded' })
  t.match(ended, { attempt: 1, result: { from: 'ann ☂' }, resourceLocation: /\/notes\// })
})

t.test('submit throws what a client gets: an invalid input, a refusal of accept, a reused key', async (t) => {
  const params = { book: 'b' }
  await t.rejects(kit.submit(operations.note, { text: '' }, { params }), {
    ...{ name: 'SubmitRefused', status: 400, code: 'invalid-body' },
    details: [{ pointer: '/text' }],
    message: /^note.create was refused with 400 invalid-body: .*\n.*"\/text"/,
  })
  await t.rejects(kit.submit(operations.note, { text: 'spam' }, { params }), {
    ...{ name: 'SubmitRefused', status: 403, code: 'spam', message: /b takes no spam/ },
  })
  const key = 'a "key"'
  const job = await kit.submit(operations.note, { text: 'one' }, { params, key })
  t.equal((await kit.submit(operations.note, { text: 'one' }, { params, key })).id, job.id)
  await t.rejects(kit.submit(operations.note, { text: 'two' }, { params, key }), { code: 'idempotency-key-reused' })
  await t.rejects(kit.submit(operations.note, { text: 'one' }), /requires \{ params: \{ book: … \} \}/)
})

t.test('runUntilIdle runs follow-ups, children and batches', async (t) => {
  const chain = await kit.submit(operations.chain, { left: 5 })
  const family = await kit.submit(operations.family, { word: 'child' })
  const items = ['a', 'b', 'c'].map((word) => ({ operation: operations.send, payload: { word } }))
  const onEnd = { operation: operations.send, payload: { word: 'batch ended' } }
  const batch = await kit.db.transaction().execute((trx) => kit.enqueueBatch(trx, { items, onEnd }))
  await kit.runUntilIdle()
  t.same(service.words.toSorted(), ['a', 'b', 'batch ended', 'c', 'child 1', 'child 2', 'end of chain'])
  await kit.expectJob(chain.id, { status: 'succeeded' })
  t.match((await kit.expectJob(family.id, { status: 'succeeded' })).children, { total: 2, succeeded: 2 })
  t.match((await kit.expectJob(batch.id, { status: 'succeeded' })).result, { total: 3, succeeded: 3 })
})

t.test('expectJob shows the error and the timeline of a job', async (t) => {
  service.errors.push(new JobFailed('no-such-word', 'the dictionary lacks it'))
  const job = await kit.submit(operations.send, { word: 'xyzzy' })
  await kit.runUntilIdle()
  t.match(await kit.expectJob(job.id, { status: 'failed', error: 'no-such-word' }), { attempt: 1 })
  const error = await kit.expectJob(job.id, { status: 'succeeded' }).catch((thrown) => thrown)
  t.match(error, {
    ...{ code: 'ERR_ASSERTION', actual: { status: 'failed' }, expected: { status: 'succeeded' } },
    message:
      /it is failed with no-such-word\n {2}error: no-such-word: the dictionary lacks it\n(.*\n)* .*started \(attempt 1\)/,
  })
  await t.rejects(kit.expectJob(job.id, { status: 'failed', error: 'other' }), /expected failed with other, but/)
  const missing = '01a2250d-11d4-7521-9c3d-0f9852908807'
  await t.rejects(kit.expectJob(missing, { status: 'failed' }), /there is no such job/)
  t.equal(await kit.get(missing), undefined)
})

t.test('a job can be canceled, and retried', async (t) => {
  const job = await kit.submit(operations.send, { word: 'canceled' })
  t.match(await kit.cancel(job.id), { status: 'canceled' })
  await kit.runUntilIdle()
  t.same(service.words, [])
  const retried = await kit.retry(job.id)
  await kit.runUntilIdle()
  t.same(service.words, ['canceled'])
  await t.rejects(kit.retry(retried.id), { code: 'job-not-retryable' })
})

t.test('advance runs each retry at its time', async (t) => {
  service.errors.push(new Error('first'), new Error('second'), new RetryAfter(3_600))
  const job = await kit.submit(operations.send, { word: 'again' })
  await kit.runUntilIdle()
  t.match(await kit.get(job.id), { status: 'queued', attempt: 1, lastError: { code: 'handler-error' } })
  await kit.runUntilIdle()
  t.equal(service.words.length, 1, 'a job that waits for its retry is not due')
  await t.rejects(kit.expectJob(job.id, { status: 'succeeded' }), /waits for its time: let it pass with kit.advance/)
  // The second delay is up to twice as long as the first, and the third attempt asks for an hour.
  await kit.advance({ minutes: 10 })
  t.equal(service.words.length, 3)
  await kit.advance({ minutes: 60 })
  t.equal(service.words.length, 4)
  await kit.expectJob(job.id, { status: 'succeeded' })
})

t.test('advance exhausts the retries of a job', async (t) => {
  for (let attempt = 1; attempt <= 4; attempt++) service.errors.push(new Error(`attempt ${attempt}`))
  const job = await kit.submit(operations.send, { word: 'never' })
  await kit.advance({ hours: 1 })
  const failed = await kit.expectJob(job.id, { status: 'failed', error: 'handler-error' })
  t.equal(failed.attempt, 4)
  const error = await kit.expectJob(job.id, { status: 'succeeded' }).catch((thrown) => thrown)
  const failures = [...error.message.matchAll(/\+(\d+)\.\d+ s {2}attempt failed \(attempt (\d)\)/g)]
  t.same(
    failures.map(([, , attempt]) => attempt),
    ['1', '2', '3', '4'],
  )
  const seconds = failures.map(([, second]) => Number(second))
  t.ok((seconds[1] as number) >= 30 && (seconds[3] as number) >= 90, 'the timeline shows the time between the attempts')
})

t.test('advance starts a deferred job at its time', async (t) => {
  const inTwoHours = () => new Date(Date.now() + 2 * 3_600_000)
  const add = (word: string) =>
    kit.db.transaction().execute((trx) => kit.enqueue(trx, operations.send, { word }, { runAt: inTwoHours() }))
  const first = await add('first')
  await kit.advance({ hours: 1, minutes: 30 })
  const second = await add('second')
  t.same(service.words, [])
  await kit.advance({ hours: 1 })
  t.same(service.words, ['first'])
  await kit.expectJob(first.id, { status: 'succeeded' })
  await kit.expectJob(second.id, { status: 'queued' })
  await kit.advance({ hours: 1 })
  t.same(service.words, ['first', 'second'])
})

t.test('advance lets the record of a job and its idempotency key expire', async (t) => {
  const options = { params: { book: 'b' }, key: 'expires' }
  const job = await kit.submit(operations.note, { text: 'kept for an hour' }, options)
  await kit.runUntilIdle()
  await kit.advance({ minutes: 59 })
  await kit.expectJob(job.id, { status: 'succeeded' })
  t.equal((await kit.submit(operations.note, { text: 'kept for an hour' }, options)).id, job.id)
  await kit.advance({ minutes: 2 })
  t.equal(await kit.get(job.id), undefined)
  t.not((await kit.submit(operations.note, { text: 'kept for an hour' }, options)).id, job.id)
})

t.test('jobs that wait for a rate limit or in a paused operation are not due', async (t) => {
  for (const word of ['one', 'two', 'three']) await kit.submit(operations.hourly, { word })
  await kit.runUntilIdle()
  t.same(service.words, ['one'])
  await kit.advance({ minutes: 59 })
  t.same(service.words, ['one'])
  await kit.advance({ hours: 2 })
  t.same(service.words, ['one', 'two', 'three'])

  await sql`select accepted.pause('word.send', 'for a test')`.execute(kit.db)
  const job = await kit.submit(operations.send, { word: 'paused' })
  await kit.runUntilIdle()
  await kit.expectJob(job.id, { status: 'queued' })
  await sql`select accepted.resume('word.send')`.execute(kit.db)
  await kit.runUntilIdle()
  await kit.expectJob(job.id, { status: 'succeeded' })
})

t.test('advance fires a schedule at each of its occurrences, in its time zone', async (t) => {
  const today = kit.now()
  await kit.runUntilIdle()
  t.same(service.digests, [])
  await kit.advance({ days: 3 })
  t.equal(kit.now().getTime() - today.getTime(), 3 * 86_400_000)
  // 3 o'clock in Berlin is 2 o'clock UTC in winter, and 1 o'clock from 29 March on.
  t.same(service.digests, ['2026-03-28T02:00:00.000Z', '2026-03-29T01:00:00.000Z', '2026-03-30T01:00:00.000Z'])
})

t.test('without a worker, schedules are missed and jobs are late', async (t) => {
  const job = await kit.db
    .transaction()
    .execute((trx) => kit.enqueue(trx, operations.send, { word: 'late' }, { runAt: new Date(Date.now() + 60_000) }))
  await kit.advance({ days: 3 }, { run: false })
  t.match(await kit.get(job.id), { status: 'queued' })
  t.same([service.words, service.digests], [[], []])
  await kit.runUntilIdle()
  t.same(service.words, ['late'])
  t.same(service.digests, ['2026-04-02T01:00:00.000Z'], 'only the last missed occurrence fires')
})

t.test('a webhook is delivered to a server of the test, and again after a failure', async (t) => {
  const receiver = await startReceiver(t, { answers: [{ status: 500 }, { status: 204 }] })
  const endpoint = { url: receiver.url, eventTypes: ['job.succeeded' as const], principal: 'hooked' }
  const { id, secret } = await kit.addWebhook(endpoint)
  t.match(id, /^[0-9a-f-]{36}$/)
  const job = await kit.submit(operations.send, { word: 'reported' }, { principal: 'hooked' })
  await kit.submit(operations.send, { word: 'of another principal' })
  await kit.runUntilIdle()
  t.equal(receiver.received.length, 1)
  await kit.advance({ minutes: 5 })
  t.equal(receiver.received.length, 2)
  for (const request of receiver.received) {
    t.match(verify(request, secret), { type: 'job.succeeded', data: { id: job.id, status: 'succeeded' } })
  }

  const wrong: [endpoint: object, message: RegExp][] = [
    [{ url: 'receiver' }, /addWebhook: \/url must be an absolute URL/],
    [{ url: receiver.url, events: ['job.failed'] }, /addWebhook: it must not have additional properties: events/],
    [{ url: receiver.url, eventTypes: ['failed'] }, /addWebhook: \/eventTypes\/0 must be/],
    [{ url: receiver.url, operations: ['word.sned'] }, /addWebhook: \/operations\/0 must be the name of an operation/],
  ]
  for (const [invalid, message] of wrong) {
    await t.rejects(kit.addWebhook(invalid as typeof endpoint), { name: 'TypeError', message })
  }
})

t.test('a job whose worker was killed runs again when its heartbeat has become old', async (t) => {
  await using flowKit = await createTestKit({ operations: flowOperations, handlers: flowHandlers, database })
  await sql.raw(flowOperations.schema).execute(flowKit.db)
  const jobs = [
    await flowKit.submit(flowOperations.performNote, { text: 'one' }),
    await flowKit.submit(flowOperations.performNote, { text: 'two' }),
  ]
  const [first, second] = jobs as [Job, Job]
  const worker = spawn(
    process.execPath,
    ['--conditions=accepted-source', join(import.meta.dirname, '../../src/cli/main.ts'), 'worker', '--config', config],
    { env: { ...process.env, DATABASE_URL: flowKit.url, WORKER_PORT: '0', HANG: 'perform' }, stdio: 'ignore' },
  )
  t.teardown(() => worker.kill('SIGKILL'))
  await until(async () =>
    (await Promise.all(jobs.map(({ id }) => flowKit.get(id)))).every((job) => job?.status === 'running'),
  )
  worker.kill('SIGKILL')
  await onceEmitted(worker, 'exit')

  await flowKit.runUntilIdle()
  await t.rejects(
    flowKit.expectJob(first.id, { status: 'succeeded' }),
    /expected succeeded, but it is running: if its worker was killed, kit\.advance\(\{ minutes: 1 \}\) lets it/,
  )
  await flowKit.advance({ minutes: 1 })
  t.match(await flowKit.expectJob(first.id, { status: 'succeeded' }), { attempt: 2, maxAttempts: 3 })
  await flowKit.expectJob(second.id, { status: 'succeeded' })
})

t.test('advance does not take a job from the worker of the kit, which still runs it', async (t) => {
  const { promise, resolve } = Promise.withResolvers<void>()
  service.hang = promise
  const job = await kit.submit(operations.send, { word: 'slow' })
  const running = kit.runUntilIdle()
  await until(() => service.words.includes('slow'))
  await kit.advance({ hours: 1 }, { run: false })
  await t.rejects(kit.runUntilIdle({ timeoutSeconds: 0.5 }), /is running \(attempt 1\)/)
  resolve()
  await running
  service.hang = undefined
  t.same(service.words, ['slow'])
  t.match(await kit.expectJob(job.id, { status: 'succeeded' }), { attempt: 1 })
})

t.test('runUntilIdle names the jobs that do not end', async (t) => {
  const { promise, resolve } = Promise.withResolvers<void>()
  service.hang = promise
  const job = await kit.submit(operations.wait, { word: 'x' })
  await t.rejects(kit.runUntilIdle({ timeoutSeconds: 0.2 }), /not idle after 0.2 s:\n {2}job/)
  await service.hasStarted.promise
  await t.rejects(kit.runUntilIdle({ timeoutSeconds: 0.2 }), {
    message: `The worker is not idle after 0.2 s:\n  job ${job.id} of word.wait is running (attempt 1)`,
  })
  resolve()
  await kit.runUntilIdle()
  service.hang = undefined
  await kit.expectJob(job.id, { status: 'succeeded' })
})

t.test('invalid arguments are refused', async (t) => {
  await t.rejects(kit.advance({}), /advance requires a duration like \{ hours: 1 \}/)
  await t.rejects(kit.advance({ hours: -1 }), TypeError)
  await t.rejects(kit.advance({ weeks: 1 } as object), TypeError)
  const wrong = { operations, handlers: createHandlers(service), databse: 'x' } as never
  await t.rejects(createTestKit(wrong), /no option 'databse'. Did you mean 'database'\?/)
  const { note: _, ...others } = operations
  const handlers = defineHandlers({ chain: others.chain }, { 'word.chain': { settle: async () => {} } })
  await t.rejects(
    createTestKit({ operations, handlers, database }),
    /the handlers are not for the operation note\.create/,
  )
})

// The input has the type that the operation declares.
// @ts-expect-error
const _wrong = () => kit.submit(operations.chain, { left: 'many' })
