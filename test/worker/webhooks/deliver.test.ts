import { defineOperation } from 'accepted'
import { defineHandlers, JobFailed } from 'accepted/worker'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import { redrive } from '../../../src/jobs/redrive.ts'
import { deliverWebhook } from '../../../src/jobs/webhook-delivery.ts'
import { createEndpoint, rotateSecret } from '../../../src/jobs/webhook-endpoint.ts'
import type { NewEndpoint } from '../../../src/jobs/webhook-schema.ts'
import { type KeyRing, newEncryptionKey, parseKeyRing } from '../../../src/primitives/key-ring.ts'
import { run } from '../../support/command.ts'
import { type Jobs, openJobs } from '../../support/jobs.ts'
import { type Receiver, startReceiver, verify } from '../../support/receiver.ts'
import { until } from '../../support/until.ts'
import { cancel, untilRunning, Word } from '../support.ts'

const write = defineOperation({ name: 'word.write', input: Word, result: Type.Object({ length: Type.Integer() }) })
const hang = defineOperation({ name: 'word.hang', input: Word })
const fail = defineOperation({ name: 'word.fail', input: Word, retry: { limit: 0 } })

const handlers = defineHandlers(
  { write, fail, hang },
  {
    'word.hang': {
      perform: ({ signal }) =>
        new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
    },
    'word.write': { settle: async (_trx, jobs) => jobs.map(({ payload }) => ({ length: payload.word.length })) },
    'word.fail': {
      perform: async () => {
        throw new JobFailed('no-luck', 'No luck')
      },
    },
  },
)

const publicUrl = 'https://api.example.com'

async function setUp(t: Test) {
  const jobs = await openJobs(t, [write, fail, hang])
  return {
    jobs,
    work: (options: Parameters<Jobs['work']>[1] = {}) =>
      jobs.work(handlers, { publicUrl, webhookAllow: ['127.0.0.0/8', '::1'], ...options }),
    register: (endpoint: NewEndpoint | Receiver, keys?: KeyRing) => {
      const { url, ...rest } = 'received' in endpoint ? { url: endpoint.url } : endpoint
      return jobs.database.kysely.transaction().execute((trx) => createEndpoint(trx, { url, ...rest }, keys))
    },
    /** Waits until the only delivery has made `attempts` attempts, or has ended. Returns its row. */
    delivery: (attempts: number) =>
      until(async () => {
        const [row] = await jobs.query(
          `select job.*, queue.start_after, queue.retry_delay from accepted.job
          join accepted_queue.job queue on queue.id = job.id
          where operation = 'webhook.deliver' and (ended_at is not null or attempt >= $1 and job.status = 'queued')`,
          [attempts],
        )
        return row
      }),
    /** Makes the next attempt due now. */
    skipDelay: () => jobs.query(`update accepted_queue.job set start_after = now() where name = 'webhook.deliver'`),
    deliveries: () =>
      jobs.query(`select * from accepted.job where operation = 'webhook.deliver' order by principal, id`),
  }
}

t.test('the outcome of a job is delivered once, as a signed event that contains the monitor', async (t) => {
  const { jobs, work, register, deliveries } = await setUp(t)
  const receiver = await startReceiver(t)
  const { id: endpointId, secret } = await register(receiver)
  await work()
  const id = await jobs.add(write, { word: 'four' }, { resource: '/words/4' })
  const [request] = await receiver.arrived(1)
  if (!request) return t.fail()
  t.match(request, { method: 'POST', path: '/hook', headers: { 'content-type': /^application\/cloudevents\+json/ } })
  const event = verify(request, secret)
  t.match(event, {
    specversion: '1.0',
    id: `${id}/2`,
    source: `${publicUrl}/jobs`,
    type: 'job.succeeded',
    subject: id,
    datacontenttype: 'application/json',
    data: {
      id,
      operation: 'word.write',
      status: 'succeeded',
      result: { length: 4 },
      resourceLocation: `${publicUrl}/words/4`,
      links: { self: `${publicUrl}/jobs/${id}` },
    },
  })
  t.equal(event.time, event.data?.updatedAt)
  const [delivery, ...more] = await until(async () => {
    const rows = await deliveries()
    return rows.every(({ status }) => status === 'succeeded') && rows
  })
  t.same(more, [], 'the outcome of the delivery itself is not delivered')
  t.match(delivery, { principal: `webhook:${endpointId}`, attempt: 1 })
  t.equal(request.headers['webhook-id'], `${id}-${endpointId}`)
  t.equal(receiver.received.length, 1)
  t.throws(() => verify({ ...request, body: request.body.replace('four', 'five').replace('4', '5') }, secret))
})

t.test('a failed job is delivered as job.failed, whether its handler or the reconciler failed it', async (t) => {
  const { jobs, work, register } = await setUp(t)
  const receiver = await startReceiver(t)
  const { secret } = await register({ url: receiver.url, eventTypes: ['job.failed'] })
  await work()
  const failed = await jobs.add(fail, { word: 'x' })
  const succeeded = await jobs.add(write, { word: 'x' })
  await jobs.ended(failed)
  await jobs.ended(succeeded)
  // The maintenance of pg-boss marks only the queue row of a job as failed.
  const lost = await jobs.add(fail, { word: 'x' }, { runAt: new Date(Date.now() + 3_600_000) })
  await jobs.query(`update accepted_queue.job set state = 'failed', completed_on = now() where id = $1`, [lost])
  const events = (await receiver.arrived(2)).map((request) => verify(request, secret))
  t.same(
    events.map(({ type, subject }) => [type, subject]).sort(),
    [failed, lost].map((id) => ['job.failed', id]).sort(),
  )
  const errors = new Map(events.map(({ subject, data }) => [subject, data?.error]))
  t.match(errors.get(failed), { code: 'no-luck', message: 'No luck' })
  t.match(errors.get(lost), { code: 'failed-elsewhere' })
  t.equal(receiver.received.length, 2, 'the endpoint gets no job.succeeded, because it registered only job.failed')
})

t.test('a canceled job is delivered as job.canceled, whether it was queued or running', async (t) => {
  const { jobs, work, register } = await setUp(t)
  const receiver = await startReceiver(t)
  const { secret } = await register(receiver)
  const waiting = await jobs.add(write, { word: 'x' })
  t.match(await cancel(jobs, waiting), { kind: 'canceled' })
  t.match(await cancel(jobs, waiting), { kind: 'canceled' }, 'the second request delivers nothing')
  await work()
  const running = await jobs.add(hang, { word: 'x' })
  await untilRunning(jobs, running)
  t.match(await cancel(jobs, running), { kind: 'requested' })
  const events = (await receiver.arrived(2)).map((request) => verify(request, secret))
  t.same(
    events.map(({ type, subject }) => [type, subject]),
    [waiting, running].map((id) => ['job.canceled', id]),
  )
})

t.test(
  'an endpoint gets only jobs of its operations, and a job that names an endpoint is delivered only there',
  async (t) => {
    const { jobs, work, register, deliveries } = await setUp(t)
    const url = 'http://127.0.0.1:9/hook'
    const all = await register({ url })
    const narrow = await register({ url, operations: ['word.fail'] })
    const off = await register({ url })
    await jobs.query('update accepted.webhook_endpoint set disabled_at = now() where id = $1', [off.id])
    const ids = [
      await jobs.add(write, { word: 'to all' }),
      await jobs.add(write, { word: 'to one' }, { webhookEndpointId: all.id }),
      await jobs.add(write, { word: 'to one with other operations' }, { webhookEndpointId: narrow.id }),
      await jobs.add(write, { word: 'to a removed one' }, { webhookEndpointId: uuid7() }),
      await jobs.add(fail, { word: 'to both' }),
    ] as const
    await work({ operations: ['word.write', 'word.fail'] })
    for (const id of ids) await jobs.ended(id)
    const enqueued = (
      await jobs.query(`select data -> 'payload' as payload from accepted_queue.job where name = 'webhook.deliver'`)
    )
      .map(({ payload: { endpointId, jobId } }) => [ids.indexOf(jobId), endpointId === all.id ? 'all' : 'narrow'])
      .sort()
    t.same(enqueued, [
      [0, 'all'],
      [1, 'all'],
      [4, 'all'],
      [4, 'narrow'],
    ])
    t.ok(
      (await deliveries()).every(({ status }) => status === 'queued'),
      'a worker without webhook.deliver does not claim deliveries',
    )
  },
)

t.test('each job of a batch is delivered separately, even a duplicate', async (t) => {
  const { jobs, work, register, deliveries } = await setUp(t)
  const receiver = await startReceiver(t)
  await register(receiver)
  const ids = await Promise.all(['a', 'b', 'b'].map((key) => jobs.add(write, { word: key }, { idempotencyKey: key })))
  await work()
  const subjects = (await receiver.arrived(3)).map(({ body }) => JSON.parse(body).subject)
  t.same(subjects.sort(), ids.sort())
  t.equal((await deliveries()).length, 3)
})

t.test('when a settle is rolled back, nothing is delivered', async (t) => {
  const { jobs, work, register, deliveries } = await setUp(t)
  await register({ url: 'http://127.0.0.1:9/hook' })
  // The trigger fails the transaction after both rows of the delivery were inserted.
  await jobs.query(`
    create function refuse() returns trigger language plpgsql as $$ begin raise exception 'not now'; end $$;
    create trigger refuse after insert on accepted_queue.job
      for each row when (new.name = 'webhook.deliver') execute function refuse();`)
  await work({ operations: ['word.write'] })
  const id = await jobs.add(write, { word: 'x' })
  await until(async () => (await jobs.query('select from accepted.attempt where job_id = $1', [id])).length > 0)
  t.same(await deliveries(), [])
  await jobs.query('drop function refuse cascade')
  t.match(await jobs.ended(id), { status: 'succeeded' })
  t.equal((await deliveries()).length, 1)
})

t.test('an endpoint of a principal gets only the jobs of that principal, however they end', async (t) => {
  const { jobs, work, register } = await setUp(t)
  const url = 'http://127.0.0.1:9/hook'
  const ofAnn = await register({ url, principal: 'ann' })
  const ofBob = await register({ url, principal: 'bob' })
  await work({ operations: ['word.write'] })
  const ids = [
    await jobs.add(write, { word: 'of ann' }),
    await jobs.add(write, { word: 'of bob' }, { principal: 'bob' }),
    await jobs.add(write, { word: 'of ann, names the endpoint of bob' }, { webhookEndpointId: ofBob.id }),
    await jobs.add(hang, { word: 'of bob, canceled in SQL' }, { principal: 'bob' }),
  ] as const
  await jobs.query('select accepted.cancel($1)', [ids[3]])
  for (const id of ids) await jobs.ended(id)
  const enqueued = (
    await jobs.query(`select data -> 'payload' as payload from accepted_queue.job where name = 'webhook.deliver'`)
  ).map(({ payload: { endpointId, jobId } }) => [ids.indexOf(jobId), endpointId === ofAnn.id ? 'ann' : 'bob'])
  t.same(enqueued.sort(), [
    [0, 'ann'],
    [1, 'bob'],
    [3, 'bob'],
  ])
})

t.test(
  'a delivery is signed with the decrypted secret; while its key is missing, it fails and is retried',
  async (t) => {
    const { jobs, work, register, delivery, skipDelay } = await setUp(t)
    const receiver = await startReceiver(t)
    const encryptionKeys = newEncryptionKey('k1')
    const { secret } = await register(receiver, parseKeyRing(encryptionKeys))
    const worker = await work({ encryptionKeys: newEncryptionKey('k2') })
    await jobs.add(write, { word: 'x' })
    const { id } = await delivery(1)
    const [{ error }] = await jobs.query('select error from accepted.attempt where job_id = $1', [id])
    t.match(error, { code: 'secret-not-readable', message: /ENCRYPTION_KEYS has no key k1/ })
    await worker.stop()
    await work({ encryptionKeys })
    await skipDelay()
    const [request] = await receiver.arrived(1)
    t.ok(request && verify(request, secret))
  },
)

t.test('a worker without keys warns if there are endpoints', async (t) => {
  const { work, register } = await setUp(t)
  const lines: string[] = []
  const log = pino({}, { write: (line: string) => void lines.push(line) })
  const count = () => lines.filter((line) => line.includes('stored in clear: set ENCRYPTION_KEYS')).length
  await work({ log })
  t.equal(count(), 0)
  await register({ url: 'http://127.0.0.1:9/hook' })
  await work({ log, encryptionKeys: newEncryptionKey('k1') })
  t.equal(count(), 0)
  await work({ log })
  t.equal(count(), 1)
})

t.test('a worker whose links lead to its own machine warns if there are endpoints on other machines', async (t) => {
  const { work, register } = await setUp(t)
  const lines: string[] = []
  const log = pino({}, { write: (line: string) => void lines.push(line) })
  const count = () => lines.filter((line) => line.includes('set PUBLIC_URL')).length
  const localUrls = ['http://127.0.0.1:3000', 'http://localhost:3000', 'http://[::1]:3000']
  for (const url of localUrls) await register({ url: `${url}/hook` })
  await work({ log, publicUrl: 'http://127.0.0.1:3000' })
  t.equal(count(), 0)
  await register({ url: 'https://hooks.example.com:8443/x' })
  await work({ log })
  t.equal(count(), 0)
  for (const [index, publicUrl] of localUrls.entries()) {
    await work({ log, publicUrl })
    t.equal(count(), index + 1, publicUrl)
  }
})

t.test(
  'a test and a repetition are delivered, and a repetition has the webhook-id of the first delivery',
  async (t) => {
    const { jobs, work, register, deliveries } = await setUp(t)
    const receiver = await startReceiver(t)
    const { id: endpointId, secret } = await register(receiver)
    await work()
    const jobId = await jobs.add(write, { word: 'x' })
    await receiver.arrived(1)
    const [{ id }] = await until(async () => {
      const rows = await deliveries()
      return rows[0]?.status === 'succeeded' && rows
    })
    const DATABASE_URL = jobs.database.options.url
    t.match(await run(['webhooks', 'resend', id], { DATABASE_URL }), { code: 0, out: /^Enqueued the delivery / })
    const [first, again] = await receiver.arrived(2)
    if (!first || !again) return t.fail()
    t.same(verify(again, secret), verify(first, secret))
    t.equal(again.headers['webhook-id'], first.headers['webhook-id'])
    t.match(await run(['webhooks', 'test', endpointId, '--json'], { DATABASE_URL }), { code: 0, out: /^\{"id":"/ })
    const [, , tested] = await receiver.arrived(3)
    t.match(tested && verify(tested, secret), { type: 'accepted.test', subject: endpointId, data: { endpointId } })
    t.match(await run(['webhooks', 'resend', jobId], { DATABASE_URL }), { code: 1, err: /no attempt of a delivery/ })
    t.match(await run(['webhooks', 'test', jobId], { DATABASE_URL }), { code: 1, err: /no webhook endpoint/ })
  },
)

t.test(
  'after a rotation, deliveries are signed with both secrets for a day, and then only with the new secret',
  async (t) => {
    const { jobs, work, register } = await setUp(t)
    const receiver = await startReceiver(t)
    const { id, secret: old } = await register(receiver)
    const rotated = await jobs.database.kysely.transaction().execute((trx) => rotateSecret(trx, id))
    const secret = rotated?.secret as string
    await work()
    await jobs.add(write, { word: 'x' })
    const [first] = await receiver.arrived(1)
    if (!first) return t.fail()
    t.equal(first.headers['webhook-signature']?.split(' ').length, 2)
    t.ok(verify(first, old))
    t.ok(verify(first, secret))
    await jobs.query(`update accepted.webhook_endpoint set secret_rotated_at = now() - interval '24 hours 1 second'`)
    await jobs.add(write, { word: 'x' })
    const second = (await receiver.arrived(2))[1]
    if (!second) return t.fail()
    t.ok(verify(second, secret))
    t.throws(() => verify(second, old), /No matching signature/)
  },
)

t.test('a failed attempt is retried later with the same id, a new timestamp and a new signature', async (t) => {
  const { jobs, work, register, delivery, skipDelay } = await setUp(t)
  const receiver = await startReceiver(t, { answers: [{ status: 500, body: 'x'.repeat(100_000) }, { status: 200 }] })
  const { secret } = await register(receiver)
  await work()
  await jobs.add(write, { word: 'x' })
  const waiting = await delivery(1)
  t.match(waiting, { status: 'queued', attempt: 1, max_attempts: 8 })
  t.ok(waiting.retry_delay >= 4 && waiting.retry_delay <= 6, `the delay is about 5 s: ${waiting.retry_delay} s`)
  const [{ error }] = await jobs.query('select error from accepted.attempt where job_id = $1', [waiting.id])
  t.match(error, { code: 'endpoint-refused', message: 'The endpoint answered 500' })
  // The timestamp is in whole seconds, so the test waits for the next second.
  await until(() => Math.floor(Date.now() / 1000) > Number(receiver.received[0]?.headers['webhook-timestamp']))
  await skipDelay()
  const [first, second] = await receiver.arrived(2)
  if (!first || !second) return t.fail()
  t.match(await jobs.ended(waiting.id), { status: 'succeeded', attempt: 2 })
  t.same(verify(first, secret), verify(second, secret))
  t.equal(second.headers['webhook-id'], first.headers['webhook-id'])
  t.ok(Number(second.headers['webhook-timestamp']) > Number(first.headers['webhook-timestamp']))
  t.not(second.headers['webhook-signature'], first.headers['webhook-signature'])
  t.not(second.remotePort, first.remotePort, 'each attempt has its own connection')
})

t.test('a redriven delivery keeps its webhook-id', async (t) => {
  const { jobs, work, register, delivery } = await setUp(t)
  const receiver = await startReceiver(t, { answers: [{ status: 410 }, { status: 200 }] })
  const { secret } = await register(receiver)
  await work()
  await jobs.add(write, { word: 'x' })
  const failed = await delivery(1)
  t.match(failed, { status: 'failed', error: { code: 'endpoint-gone' } })
  await jobs.query('update accepted.webhook_endpoint set disabled_at = null, disabled_reason = null')
  const operations = new Map([[deliverWebhook.name, deliverWebhook]])
  await jobs.database.kysely
    .transaction()
    .execute((trx) => redrive(trx, operations.keys(), { batchSize: 10, maxRedriven: 10 }))
  const [first, second] = await receiver.arrived(2)
  if (!first || !second) return t.fail()
  t.equal(second.headers['webhook-id'], first.headers['webhook-id'])
  t.same(verify(first, secret), verify(second, secret))
})

t.test('the delays between attempts grow to a day, and the delivery fails after the eighth attempt', async (t) => {
  const { jobs, work, register, delivery, skipDelay } = await setUp(t)
  const receiver = await startReceiver(t, { answers: [{ status: 503 }] })
  await register(receiver)
  await work()
  await jobs.add(write, { word: 'x' })
  const hours = [5 / 3600, 1 / 12, 0.5, 2, 5, 10, 24]
  for (const [index, planned] of hours.entries()) {
    const { retry_delay } = await delivery(index + 1)
    const hours = retry_delay / 3600
    t.ok(hours > planned * 0.85 && hours < planned * 1.25, `${hours} h is about ${planned} h`)
    await skipDelay()
  }
  t.match(await delivery(8), { status: 'failed', attempt: 8, error: { code: 'endpoint-refused' } })
  t.equal(receiver.received.length, 8)
})

t.test('a Retry-After that is longer than the delay is honoured, up to a day', async (t) => {
  const { jobs, work, register, delivery, skipDelay } = await setUp(t)
  const inAnHour = new Date(Date.now() + 3_600_000).toUTCString()
  const retryAfter = ['600', inAnHour, '1', '999999', 'nonsense']
  const answers = retryAfter.map((value) => ({ status: 429, headers: { 'retry-after': value } }))
  await register(await startReceiver(t, { answers }))
  await work()
  await jobs.add(write, { word: 'x' })
  const near = { 1: [600, 600], 2: [3_400, 3_600], 3: [1_600, 2_000], 4: [86_400, 86_400], 5: [16_200, 19_800] }
  for (const [attempt, [least, most]] of Object.entries(near) as [string, [number, number]][]) {
    const { retry_delay } = await delivery(Number(attempt))
    t.ok(retry_delay >= least && retry_delay <= most, `the delay after attempt ${attempt} is ${retry_delay} s`)
    await skipDelay()
  }
})

t.test('a redirect is not followed and counts as a failed attempt', async (t) => {
  const { jobs, work, register, delivery } = await setUp(t)
  const elsewhere = await startReceiver(t)
  const receiver = await startReceiver(t, { answers: [{ status: 307, headers: { location: elsewhere.url } }] })
  await register(receiver)
  await work()
  await jobs.add(write, { word: 'x' })
  const { id } = await delivery(1)
  const [{ error }] = await jobs.query('select error from accepted.attempt where job_id = $1', [id])
  t.match(error, { code: 'endpoint-refused', message: 'The endpoint answered 307' })
  t.equal(elsewhere.connections(), 0)
})

t.test('the answer 410 fails the delivery and disables the endpoint, and later jobs are not delivered', async (t) => {
  const { jobs, work, register, delivery, deliveries } = await setUp(t)
  const receiver = await startReceiver(t, { answers: [{ status: 410 }] })
  await register(receiver)
  await work()
  await jobs.add(write, { word: 'x' })
  t.match(await delivery(1), { status: 'failed', attempt: 1, error: { code: 'endpoint-gone' } })
  const [endpoint] = await jobs.query('select * from accepted.webhook_endpoint')
  t.match(endpoint, { disabled_at: Date, disabled_reason: 'The endpoint answered 410 Gone' })
  await jobs.ended(await jobs.add(write, { word: 'y' }))
  t.equal((await deliveries()).length, 1)
})

for (const [what, statement, code] of [
  ['its endpoint was removed', 'delete from accepted.webhook_endpoint', 'endpoint-removed'],
  ['its endpoint was disabled', `update accepted.webhook_endpoint set disabled_at = now()`, 'endpoint-disabled'],
  ['its job has expired', `delete from accepted.job where operation = 'word.write'`, 'job-expired'],
] as const) {
  t.test(`a delivery fails without a retry when ${what}`, async (t) => {
    const { jobs, work, register, delivery } = await setUp(t)
    const receiver = await startReceiver(t)
    await register(receiver)
    const first = await work({ operations: ['word.write'] })
    await jobs.ended(await jobs.add(write, { word: 'x' }))
    await first.stop()
    await jobs.query(statement)
    await work({ operations: ['webhook.deliver'] })
    t.match(await delivery(1), { status: 'failed', attempt: 1, error: { code } })
    t.equal(receiver.connections(), 0)
  })
}

t.test(
  'a private address is refused in every notation, and under every name that resolves to that address',
  async (t) => {
    const { jobs, work, register, deliveries } = await setUp(t)
    const receiver = await startReceiver(t)
    const { port } = new URL(receiver.url)
    for (const host of [
      '127.0.0.1',
      '127.1',
      '2130706433',
      '0x7f.1',
      '[::1]',
      '[::ffff:127.0.0.1]',
      'localhost',
      '0',
    ]) {
      await register({ url: `http://${host}:${port}/hook` })
    }
    await register({ url: `https://127.0.0.1:${port}/hook` })
    await register({ url: `https://localhost:${port}/hook` })
    // None of the allowed networks contains the address of an endpoint.
    await work({ webhookAllow: ['192.168.0.0/16', '2001:db8::/32', '127.0.0.2'] })
    await jobs.add(write, { word: 'x' })
    const attempts = await until(async () => {
      const rows = await jobs.query('select error from accepted.attempt')
      return rows.length >= 10 && rows
    })
    t.same([...new Set(attempts.map(({ error }) => error.code))], ['address-refused'])
    t.equal(receiver.connections(), 0)
    t.ok(
      (await deliveries()).every(({ ended_at }) => !ended_at),
      'the deliveries are retried, because the name may resolve to another address next time',
    )
  },
)

t.test('the log has each attempt with its status, time and the beginning of the answer, without secrets', async (t) => {
  const { jobs, work, register, delivery, skipDelay } = await setUp(t)
  const receiver = await startReceiver(t, {
    answers: [
      { status: 503, body: `try\r\n\u0000later authorization: Bearer abcdefghijklmnop` },
      { status: 201, body: `thanks ${'é'.repeat(1000)}` },
    ],
  })
  const { id: endpointId } = await register(receiver)
  await work()
  const jobId = await jobs.add(write, { word: 'x' })
  const { id } = await delivery(1)
  await skipDelay()
  await jobs.ended(id)
  const log = await jobs.query('select * from accepted.delivery_log where endpoint_id = $1 order by at', [endpointId])
  const entry = { endpoint_id: endpointId, delivery_id: id, job_id: jobId }
  t.match(log, [
    {
      ...{ ...entry, attempt: 1, http_status: 503, error_code: 'endpoint-refused', duration_ms: Number },
      answer: 'try later authorization: ***',
    },
    { ...entry, attempt: 2, http_status: 201, error_code: null, error_message: null, answer: /^thanks é+/ },
  ])
  t.ok(log[1].answer.length < 520, 'the answer is cut after 1,024 bytes')
  const { out } = await run(['webhooks', 'log', endpointId], { DATABASE_URL: jobs.database.options.url })
  t.match(
    out,
    /^ID +ENDPOINT .*\n.* 2 .*Z +201 +\d+ ms +thanks é+\S*\n.* 1 .*Z +503 +\d+ ms +endpoint-refused +try later/,
  )
  t.match((await jobs.read(id)).result, { jobId, status: 201, answer: /^thanks/, durationMs: Number })
})

t.test('an attempt fails when the endpoint does not answer in time', async (t) => {
  const { jobs, work, register, delivery } = await setUp(t)
  await register(await startReceiver(t, { answers: ['never'] }))
  await work()
  await jobs.add(write, { word: 'x' })
  const { id } = await delivery(1)
  const [{ error }] = await jobs.query('select error from accepted.attempt where job_id = $1', [id])
  t.match(error, { code: 'endpoint-timeout' })
})

t.test('an attempt fails when nothing listens at the address', async (t) => {
  const { jobs, work, register, delivery } = await setUp(t)
  await register({ url: 'http://127.0.0.1:9/hook' })
  await work()
  await jobs.add(write, { word: 'x' })
  const { id } = await delivery(1)
  const [{ error }] = await jobs.query('select error from accepted.attempt where job_id = $1', [id])
  t.match(error, { code: 'endpoint-unreachable', message: /ECONNREFUSED/ })
})
