import t, { type Test } from 'tap'
import { run } from '../support/command.ts'
import { type Answer, type ReceivedRequest, startReceiver, verify } from '../support/receiver.ts'
import { until } from '../support/until.ts'
import { claimed } from './app/operations.ts'
import { config, finalStatuses, nothing, serve, startWorker } from './support.ts'

const service = await serve(t, { worker: false })
const { api, databaseUrl, pool } = service
await startWorker(t, databaseUrl, `${claimed},webhook.deliver`, {
  PUBLIC_URL: api.url,
  WEBHOOK_ALLOW: '127.0.0.0/8, ::1',
})
const ann = service.as('ann')
const ops = service.as('ops')

const second = 1
const minute = 60 * second
const hour = 60 * minute

interface Endpoint {
  id: string
  secret: string
}

/** Registers an endpoint, and removes it at the end of the test. */
async function register(t: Test, url: string, filter: { eventTypes?: string[]; operations?: string[] } = {}) {
  const { status, body } = await ops.post('/webhooks', { url, ...filter })
  t.equal(status, 201)
  t.teardown(() => ops.request(`/webhooks/${body.id}`, { method: 'DELETE' }))
  return body as Endpoint
}

/** Starts a receiver, and registers it as an endpoint. */
async function subscribe(t: Test, options: { eventTypes?: string[]; operations?: string[]; answers?: Answer[] } = {}) {
  const { answers, ...filter } = options
  const receiver = await startReceiver(t, answers ? { answers } : {})
  return { receiver, endpoint: await register(t, receiver.url, filter) }
}

/** Submits a job that notifies only this endpoint. */
const submitTo = ({ id }: Endpoint, path: string, body: unknown) => ann.submit(path, body, { 'accepted-webhook': id })

/** Runs a job to its end, and returns the request that the endpoint received. */
async function deliveredTo({ receiver, endpoint }: Awaited<ReturnType<typeof subscribe>>): Promise<ReceivedRequest> {
  const before = receiver.received.length
  await submitTo(endpoint, '/sums', { numbers: [1, 2] })
  return (await receiver.arrived(before + 1)).at(-1) as ReceivedRequest
}

const subjectOf = ({ body }: ReceivedRequest) => JSON.parse(body).subject as string

/** Reads the delivery jobs of an endpoint; `pause` is the time until the next attempt, in seconds. */
async function deliveriesTo({ id }: Endpoint) {
  const { rows } = await pool.query(
    `select job.*, extract(epoch from queue.start_after - now())::float as pause
    from accepted.job left join accepted_queue.job queue on queue.id = job.id
    where job.operation = 'webhook.deliver' and job.principal = $1 order by job.id`,
    [`webhook:${id}`],
  )
  return rows
}

/** Waits until the first delivery to an endpoint has had at least `attempts` attempts. Returns the delivery job. */
const deliveryTo = (endpoint: Endpoint, attempts: number) =>
  until(async () => {
    const [delivery] = await deliveriesTo(endpoint)
    return delivery?.attempt >= attempts && delivery.status !== 'running' && delivery
  })

/** Makes the next attempt of every delivery due now. */
const makeDeliveriesDue = () =>
  pool.query("update accepted_queue.job set start_after = now() where name = 'webhook.deliver'")

t.test('POST /webhooks registers an endpoint with a URL, event types and operations', async (t) => {
  const endpoint = { url: 'https://example.com/hook', eventTypes: ['job.failed'], operations: ['sum'] }
  const { status, headers, body } = await ops.post('/webhooks', endpoint)
  t.equal(status, 201)
  t.match(body, { ...endpoint, secret: /^whsec_/ })
  t.equal(headers.location, `${api.url}/webhooks/${body.id}`)
  await ops.request(`/webhooks/${body.id}`, { method: 'DELETE' })
})

t.test(
  'POST /webhooks answers 403 without the scope admin and 401 without a principal, and registers nothing',
  async (t) => {
    const endpoint = { url: 'https://example.com/hook' }
    t.equal((await ann.post('/webhooks', endpoint)).status, 403)
    t.equal((await service.as('nobody').post('/webhooks', endpoint)).status, 401)
    t.same((await ops.get('/webhooks')).body, { value: [] })
  },
)

t.test('the command `accepted webhooks` can add, list, rotate and remove endpoints', async (t) => {
  const env = { DATABASE_URL: databaseUrl }
  const webhooks = async (...args: string[]) => JSON.parse((await run(['webhooks', ...args, '--json'], env)).out)
  const filter = ['--events', 'job.failed', '--operations', 'sum', '--config', config]
  const added = await webhooks('add', 'https://example.com/hook', ...filter)
  t.match(added, { eventTypes: ['job.failed'], operations: ['sum'], secret: /^whsec_/ })
  t.match((await ops.get('/webhooks')).body.value, [{ id: added.id }])
  t.match(await webhooks('list'), [{ id: added.id }])
  t.not((await webhooks('rotate', added.id)).secret, added.secret)
  await run(['webhooks', 'remove', added.id], env)
  t.same((await ops.get('/webhooks')).body, { value: [] })
})

for (const jobStatus of finalStatuses) {
  t.test(`a ${jobStatus} job sends an event of the type job.${jobStatus} to a matching endpoint`, async (t) => {
    const { receiver, endpoint } = await subscribe(t)
    const id = await service.as(`notified-${jobStatus}`).endedAs(jobStatus)
    const [request] = await receiver.arrived(1)
    if (!request) return t.fail()
    t.match(verify(request, endpoint.secret), { type: `job.${jobStatus}`, subject: id })
  })
}

t.test('an endpoint receives only the event types and operations for which it is registered', async (t) => {
  const { receiver } = await subscribe(t, {
    eventTypes: ['job.canceled', 'job.succeeded'],
    operations: ['sum', 'idle'],
  })
  await ann.endedAs('failed')
  await ann.endedAs('succeeded')
  const { id: echoed } = await ann.submit('/echoes', { text: 'x' })
  await ann.ended(echoed)
  const canceled = await ann.endedAs('canceled')
  const { id: summed } = await ann.submit('/sums', { numbers: [1] })
  const requests = await receiver.arrived(2)
  t.same(requests.map(subjectOf).sort(), [canceled, summed].sort())
})

t.test('a job that was submitted with Accepted-Webhook notifies only the endpoint in that header', async (t) => {
  const [one, other] = [await subscribe(t), await subscribe(t)]
  const narrowed = await submitTo(one.endpoint, '/sums', { numbers: [1] })
  const all = await ann.submit('/sums', { numbers: [2] })
  await one.receiver.arrived(2)
  await other.receiver.arrived(1)
  t.same(one.receiver.received.map(subjectOf).sort(), [narrowed.id, all.id].sort())
  t.same(other.receiver.received.map(subjectOf), [all.id])
})

t.test('a request whose Accepted-Webhook names an unknown endpoint gets 400, and nothing is stored', async (t) => {
  const bob = service.as('bob')
  for (const id of ['0199aaaa-0000-7000-8000-000000000000', 'x', '']) {
    const { status } = await bob.post('/idle', { text: 'x' }, { 'accepted-webhook': id, 'idempotency-key': 'k' })
    t.equal(status, 400, id)
  }
  t.same(await service.storedBy('bob'), nothing)
})

t.test('a delivery is a separate job, inserted by the transaction that settles the original job', async (t) => {
  const { receiver, endpoint } = await subscribe(t)
  const { id } = await submitTo(endpoint, '/sums', { numbers: [1] })
  await receiver.arrived(1)
  const [delivery] = await deliveriesTo(endpoint)
  t.not(delivery.id, id)
  // Both times come from now(), the start time of the transaction in microseconds. Equal times mean one transaction.
  const { rows } = await pool.query(
    `select delivery.created_at = ended.expires_at - interval '168 hours' as one
    from accepted.job delivery, accepted.job ended where delivery.id = $1 and ended.id = $2`,
    [delivery.id, id],
  )
  t.same(rows, [{ one: true }])
})

t.test('if a first settle is rolled back and a second settle commits, one notification is sent', async (t) => {
  const { receiver, endpoint } = await subscribe(t)
  const { id } = await submitTo(endpoint, '/steered', {})
  // Makes the first transaction that settles the job fail at its commit.
  await pool.query(`
    create sequence settles;
    create function fail_once() returns trigger language plpgsql as $$ begin
      if nextval('settles') = 1 then raise exception 'not yet'; end if; return null; end $$;
    create constraint trigger fail_once after update on accepted.job deferrable initially deferred
      for each row when (new.id = '${id}' and new.status = 'succeeded') execute function fail_once();`)
  await service.steer(id, { do: 'succeed' })
  await until(async () => (await pool.query('select is_called from settles')).rows[0].is_called)
  await service.steer(id, { do: 'succeed' })
  t.match(await ann.ended(id), { status: 'succeeded', attempt: 2 })
  await receiver.arrived(1)
  await deliveryTo(endpoint, 1)
  t.equal((await deliveriesTo(endpoint)).length, 1)
  t.equal(receiver.received.length, 1)
})

t.test('the body of a delivery is a CloudEvent in structured mode', async (t) => {
  const request = await deliveredTo(await subscribe(t))
  t.equal(request.method, 'POST')
  t.match(request.headers['content-type'], /^application\/cloudevents\+json\b/)
  t.match(JSON.parse(request.body), {
    specversion: '1.0',
    id: /\S/,
    source: `${api.url}/jobs`,
    type: 'job.succeeded',
    time: /Z$/,
    datacontenttype: /^application\/json/,
  })
})

t.test('the subject of the CloudEvent is the job id, and its data is the monitor', async (t) => {
  const { subject, data } = JSON.parse((await deliveredTo(await subscribe(t))).body)
  t.same(data, await ann.monitor(subject))
})

t.test('the Standard Webhooks library verifies a delivery, and rejects a delivery that was changed', async (t) => {
  const subscriber = await subscribe(t)
  const request = await deliveredTo(subscriber)
  const { secret } = subscriber.endpoint
  t.ok(verify(request, secret))
  t.throws(() => verify({ ...request, body: request.body.replace('"total":3', '"total":4') }, secret))
  t.throws(() => verify({ ...request, headers: { ...request.headers, 'webhook-id': 'another' } }, secret))
  const later = String(Number(request.headers['webhook-timestamp']) + 1)
  t.throws(() => verify({ ...request, headers: { ...request.headers, 'webhook-timestamp': later } }, secret))
})

t.test(
  'all attempts of a delivery have the same webhook-id, and another delivery has a different webhook-id',
  async (t) => {
    const subscriber = await subscribe(t, { answers: [{ status: 500 }, { status: 204 }] })
    await deliveredTo(subscriber)
    await deliveryTo(subscriber.endpoint, 1)
    await makeDeliveriesDue()
    const [first, again] = (await subscriber.receiver.arrived(2)) as [ReceivedRequest, ReceivedRequest]
    t.match(first.headers['webhook-id'], /\S/)
    t.equal(again.headers['webhook-id'], first.headers['webhook-id'])
    t.equal(again.body, first.body)
    const other = await deliveredTo(subscriber)
    t.not(other.headers['webhook-id'], first.headers['webhook-id'])
  },
)

t.test(
  'after a rotation of the secret, a delivery has a signature for the new secret and one for the old secret',
  async (t) => {
    const subscriber = await subscribe(t)
    const { body } = await ops.post(`/webhooks/${subscriber.endpoint.id}/rotate`, undefined)
    t.not(body.secret, subscriber.endpoint.secret)
    const request = await deliveredTo(subscriber)
    t.equal(request.headers['webhook-signature']?.split(' ').length, 2)
    t.ok(verify(request, body.secret))
    t.ok(verify(request, subscriber.endpoint.secret))
  },
)

for (const status of [200, 202, 204, 299]) {
  t.test(`a delivery succeeds if the endpoint answers ${status}`, async (t) => {
    const subscriber = await subscribe(t, { answers: [{ status }] })
    await deliveredTo(subscriber)
    t.match(await deliveryTo(subscriber.endpoint, 1), { status: 'succeeded' })
  })
}

for (const status of [301, 302, 303, 307, 308]) {
  t.test(`if the endpoint answers ${status}, the redirect is not followed, and the delivery is retried`, async (t) => {
    const redirectTarget = await startReceiver(t)
    const subscriber = await subscribe(t, { answers: [{ status, headers: { location: redirectTarget.url } }] })
    await deliveredTo(subscriber)
    t.match(await deliveryTo(subscriber.endpoint, 1), { status: 'queued' })
    t.equal(redirectTarget.connections(), 0)
  })
}

t.test('an endpoint that answers 410 is disabled, and receives no more deliveries', async (t) => {
  const subscriber = await subscribe(t, { answers: [{ status: 410 }] })
  await deliveredTo(subscriber)
  t.match(await deliveryTo(subscriber.endpoint, 1), { status: 'failed', attempt: 1 })
  t.match((await ops.get(`/webhooks/${subscriber.endpoint.id}`)).body, { disabledAt: /Z$/, disabledReason: /410/ })
  await ann.endedAs('succeeded')
  t.equal((await deliveriesTo(subscriber.endpoint)).length, 1)
})

t.test('if the endpoint answers with Retry-After, the next attempt is delayed', async (t) => {
  const subscriber = await subscribe(t, { answers: [{ status: 503, headers: { 'retry-after': '1234' } }] })
  await deliveredTo(subscriber)
  const { pause } = await deliveryTo(subscriber.endpoint, 1)
  t.ok(pause > 1200 && pause <= 1234, `${pause} s`)
})

t.test('an attempt fails if the endpoint does not answer within 15 s', async (t) => {
  const silent = await startReceiver(t, { answers: ['never'] })
  const endpoint = await register(t, silent.url)
  await submitTo(endpoint, '/sums', { numbers: [1] })
  await silent.arrived(1)
  const begun = (await deliveriesTo(endpoint))[0]
  t.match(begun, { status: 'running' })
  const { updated_at } = await deliveryTo(endpoint, 1)
  const seconds = (updated_at - begun.attempt_started_at) / 1000
  t.ok(seconds >= 14.5, `the attempt failed after ${seconds} s`)
})

t.test(
  'a delivery is retried after about 5 s, 5 min, 30 min, 2 h, 5 h, 10 h and 24 h, with jitter, and then fails',
  async (t) => {
    const subscriber = await subscribe(t, { answers: [{ status: 500 }] })
    await deliveredTo(subscriber)
    const planned = [5 * second, 5 * minute, 30 * minute, 2 * hour, 5 * hour, 10 * hour, 24 * hour]
    const pauses: number[] = []
    for (const [index, about] of planned.entries()) {
      const { pause } = await deliveryTo(subscriber.endpoint, index + 1)
      t.ok(pause > about * 0.8 - 2 && pause < about * 1.25, `the pause of ${pause} s is about ${about} s`)
      pauses.push(pause)
      await makeDeliveriesDue()
    }
    t.notSame(pauses, planned)
    t.match(await deliveryTo(subscriber.endpoint, 8), { status: 'failed' })
    t.equal(subscriber.receiver.received.length, 8)
  },
)

t.test(
  'private, loopback and link-local addresses are refused after DNS resolution, unless they are allowed',
  async (t) => {
    const strict = await serve(t, { worker: false })
    const env = { PUBLIC_URL: strict.api.url, WEBHOOK_ALLOW: '127.0.0.2' }
    await startWorker(t, strict.databaseUrl, `${claimed},webhook.deliver`, env)
    const receiver = await startReceiver(t)
    const { port } = new URL(receiver.url)
    const hosts = [
      '127.0.0.1',
      'localhost',
      '[::1]',
      '10.0.0.1',
      '192.168.1.1',
      '172.16.0.1',
      '169.254.169.254',
      '0.0.0.0',
      '[::127.0.0.1]',
      '[64:ff9b::7f00:1]',
      '2130706433',
      'localhost.',
    ]
    for (const host of hosts) {
      await strict.as('ops').post('/webhooks', { url: `http://${host}:${port}/hook` })
    }
    const client = strict.as('ann')
    await client.submit('/sums', { numbers: [1] })
    const errors = await until(async () => {
      const { rows } = await strict.pool.query(
        `select distinct on (job_id) attempt.error from accepted.attempt join accepted.job on job.id = job_id
        where operation = 'webhook.deliver'`,
      )
      return rows.length === hosts.length && rows.map(({ error }) => error.code)
    })
    t.same([...new Set(errors)], ['address-refused'])
    t.equal(receiver.connections(), 0)
  },
)
