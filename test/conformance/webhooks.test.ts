import t, { type Test } from 'tap'
import { run } from '../support/command.ts'
import { type Answer, type Received, receive, verify } from '../support/receiver.ts'
import { until } from '../support/until.ts'
import { claimed } from './app/operations.ts'
import { config, finalStates, nothing, serve, startWorker } from './support.ts'

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

/** Registers an endpoint over HTTP, until the end of the test. */
async function register(t: Test, url: string, narrow: { eventTypes?: string[]; operations?: string[] } = {}) {
  const { status, body } = await ops.post('/webhooks', { url, ...narrow })
  t.equal(status, 201)
  t.teardown(() => ops.request(`/webhooks/${body.id}`, { method: 'DELETE' }))
  return body as Endpoint
}

/** Starts a receiver, and registers it. */
async function subscribe(t: Test, narrow: { eventTypes?: string[]; operations?: string[]; answers?: Answer[] } = {}) {
  const { answers, ...endpoint } = narrow
  const receiver = await receive(t, answers ? { answers } : {})
  return { receiver, endpoint: await register(t, receiver.url, endpoint) }
}

/** Submits a job whose end only this endpoint is told of. */
const submitTo = ({ id }: Endpoint, path: string, body: unknown) => ann.submit(path, body, { 'accepted-webhook': id })

/** Has a job end, and answers what the endpoint was sent. */
async function deliveredTo({ receiver, endpoint }: Awaited<ReturnType<typeof subscribe>>): Promise<Received> {
  const before = receiver.received.length
  await submitTo(endpoint, '/sums', { numbers: [1, 2] })
  return (await receiver.arrived(before + 1)).at(-1) as Received
}

const subjectOf = ({ body }: Received) => JSON.parse(body).subject as string

/** What the table of jobs says of the deliveries to an endpoint. */
async function deliveriesTo({ id }: Endpoint) {
  const { rows } = await pool.query(
    `select job.*, extract(epoch from queue.start_after - now())::float as pause
    from accepted.job left join pgboss.job queue on queue.id = job.id
    where job.operation = 'webhook.deliver' and job.principal = $1 order by job.id`,
    [`webhook:${id}`],
  )
  return rows
}

/** The one delivery to an endpoint, once it has made so many attempts. */
const deliveryTo = (endpoint: Endpoint, attempts: number) =>
  until(async () => {
    const [delivery] = await deliveriesTo(endpoint)
    return delivery?.attempt >= attempts && delivery.state !== 'running' && delivery
  })

/** What waits for its next attempt waits no longer. */
const hasten = () => pool.query("update pgboss.job set start_after = now() where name = 'webhook.deliver'")

t.test('POST /webhooks registers a URL, event types and operations', async (t) => {
  const endpoint = { url: 'https://example.com/hook', eventTypes: ['job.failed'], operations: ['sum'] }
  const { status, headers, body } = await ops.post('/webhooks', endpoint)
  t.equal(status, 201)
  t.match(body, { ...endpoint, secret: /^whsec_/ })
  t.equal(headers.location, `${api.url}/webhooks/${body.id}`)
  await ops.request(`/webhooks/${body.id}`, { method: 'DELETE' })
})

t.test(
  'POST /webhooks is for the scope admin: 403 without it, 401 without a principal, and nothing is there',
  async (t) => {
    const endpoint = { url: 'https://example.com/hook' }
    t.equal((await ann.post('/webhooks', endpoint)).status, 403)
    t.equal((await service.as('nobody').post('/webhooks', endpoint)).status, 401)
    t.same((await ops.get('/webhooks')).body, { value: [] })
  },
)

t.test('accepted webhooks add, list, rotate and remove do the same', async (t) => {
  const env = { DATABASE_URL: databaseUrl }
  const webhooks = async (...args: string[]) => JSON.parse((await run(['webhooks', ...args, '--json'], env)).out)
  const narrow = ['--events', 'job.failed', '--operations', 'sum', '--config', config]
  const added = await webhooks('add', 'https://example.com/hook', ...narrow)
  t.match(added, { eventTypes: ['job.failed'], operations: ['sum'], secret: /^whsec_/ })
  t.match((await ops.get('/webhooks')).body.value, [{ id: added.id }])
  t.match(await webhooks('list'), [{ id: added.id }])
  t.not((await webhooks('rotate', added.id)).secret, added.secret)
  await run(['webhooks', 'remove', added.id], env)
  t.same((await ops.get('/webhooks')).body, { value: [] })
})

for (const state of finalStates) {
  t.test(`a matching endpoint is told when a job is ${state}, with the type job.${state}`, async (t) => {
    const { receiver, endpoint } = await subscribe(t)
    const id = await service.as(`one-${state}`).endedAs(state)
    const [request] = await receiver.arrived(1)
    if (!request) return t.fail()
    t.match(verify(request, endpoint.secret), { type: `job.${state}`, subject: id })
  })
}

t.test('an endpoint is told of its event types and operations only', async (t) => {
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

t.test('Accepted-Webhook narrows a request to one endpoint', async (t) => {
  const [one, other] = [await subscribe(t), await subscribe(t)]
  const narrowed = await submitTo(one.endpoint, '/sums', { numbers: [1] })
  const all = await ann.submit('/sums', { numbers: [2] })
  await one.receiver.arrived(2)
  await other.receiver.arrived(1)
  t.same(one.receiver.received.map(subjectOf).sort(), [narrowed.id, all.id].sort())
  t.same(other.receiver.received.map(subjectOf), [all.id])
})

t.test('Accepted-Webhook of an endpoint that is not there: 400, and nothing is stored', async (t) => {
  const bob = service.as('bob')
  for (const id of ['0199aaaa-0000-7000-8000-000000000000', 'x', '']) {
    const { status } = await bob.post('/idle', { text: 'x' }, { 'accepted-webhook': id, 'idempotency-key': 'k' })
    t.equal(status, 400, id)
  }
  t.same(await service.storedBy('bob'), nothing)
})

t.test('the delivery is a job of its own, written by the transaction that settles the job', async (t) => {
  const { receiver, endpoint } = await subscribe(t)
  const { id } = await submitTo(endpoint, '/sums', { numbers: [1] })
  await receiver.arrived(1)
  const [delivery] = await deliveriesTo(endpoint)
  t.not(delivery.id, id)
  // Both are made of the time of the transaction, to the microsecond.
  const { rows } = await pool.query(
    "select told.created_at = ended.expires_at - interval '168 hours' as one from accepted.job told, accepted.job ended where told.id = $1 and ended.id = $2",
    [delivery.id, id],
  )
  t.same(rows, [{ one: true }])
})

t.test('a settle that does not commit tells nobody, and the one that does tells once', async (t) => {
  const { receiver, endpoint } = await subscribe(t)
  const { id } = await submitTo(endpoint, '/steered', {})
  // What ends the job fails the first time at its commit.
  await pool.query(`
    create sequence settles;
    create function fail_once() returns trigger language plpgsql as $$ begin
      if nextval('settles') = 1 then raise exception 'not yet'; end if; return null; end $$;
    create constraint trigger fail_once after update on accepted.job deferrable initially deferred
      for each row when (new.id = '${id}' and new.state = 'succeeded') execute function fail_once();`)
  await service.steer(id, { do: 'succeed' })
  await until(async () => (await pool.query('select is_called from settles')).rows[0].is_called)
  await service.steer(id, { do: 'succeed' })
  t.match(await ann.ended(id), { status: 'succeeded', attempt: 2 })
  await receiver.arrived(1)
  await deliveryTo(endpoint, 1)
  t.equal((await deliveriesTo(endpoint)).length, 1)
  t.equal(receiver.received.length, 1)
})

t.test('the body is a structured CloudEvent', async (t) => {
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

t.test('subject is the job id, and data the monitor', async (t) => {
  const { subject, data } = JSON.parse((await deliveredTo(await subscribe(t))).body)
  t.same(data, await ann.monitor(subject))
})

t.test(
  'a delivery is signed per Standard Webhooks: its library verifies it, and nothing that was changed',
  async (t) => {
    const told = await subscribe(t)
    const request = await deliveredTo(told)
    const { secret } = told.endpoint
    t.ok(verify(request, secret))
    t.throws(() => verify({ ...request, body: request.body.replace('"total":3', '"total":4') }, secret))
    t.throws(() => verify({ ...request, headers: { ...request.headers, 'webhook-id': 'another' } }, secret))
    const later = String(Number(request.headers['webhook-timestamp']) + 1)
    t.throws(() => verify({ ...request, headers: { ...request.headers, 'webhook-timestamp': later } }, secret))
  },
)

t.test('webhook-id is constant over retries, and names the delivery', async (t) => {
  const told = await subscribe(t, { answers: [{ status: 500 }, { status: 204 }] })
  await deliveredTo(told)
  await deliveryTo(told.endpoint, 1)
  await hasten()
  const [first, again] = (await told.receiver.arrived(2)) as [Received, Received]
  t.match(first.headers['webhook-id'], /\S/)
  t.equal(again.headers['webhook-id'], first.headers['webhook-id'])
  t.equal(again.body, first.body)
  const other = await deliveredTo(told)
  t.not(other.headers['webhook-id'], first.headers['webhook-id'])
})

t.test('during a rotation there are several signatures, one for each secret', async (t) => {
  const told = await subscribe(t)
  const { body } = await ops.post(`/webhooks/${told.endpoint.id}/rotate`, undefined)
  t.not(body.secret, told.endpoint.secret)
  const request = await deliveredTo(told)
  t.equal(request.headers['webhook-signature']?.split(' ').length, 2)
  t.ok(verify(request, body.secret))
  t.ok(verify(request, told.endpoint.secret))
})

for (const status of [200, 202, 204, 299]) {
  t.test(`${status} is success`, async (t) => {
    const told = await subscribe(t, { answers: [{ status }] })
    await deliveredTo(told)
    t.match(await deliveryTo(told.endpoint, 1), { state: 'succeeded' })
  })
}

for (const status of [301, 302, 303, 307, 308]) {
  t.test(`${status} is failure and not followed`, async (t) => {
    const elsewhere = await receive(t)
    const told = await subscribe(t, { answers: [{ status, headers: { location: elsewhere.url } }] })
    await deliveredTo(told)
    t.match(await deliveryTo(told.endpoint, 1), { state: 'queued' })
    t.equal(elsewhere.connections(), 0)
  })
}

t.test('410 disables the endpoint, and nothing more is told', async (t) => {
  const told = await subscribe(t, { answers: [{ status: 410 }] })
  await deliveredTo(told)
  t.match(await deliveryTo(told.endpoint, 1), { state: 'failed', attempt: 1 })
  t.match((await ops.get(`/webhooks/${told.endpoint.id}`)).body, { disabledAt: /Z$/, disabledReason: /410/ })
  await ann.endedAs('succeeded')
  t.equal((await deliveriesTo(told.endpoint)).length, 1)
})

t.test('Retry-After is honoured', async (t) => {
  const told = await subscribe(t, { answers: [{ status: 503, headers: { 'retry-after': '1234' } }] })
  await deliveredTo(told)
  const { pause } = await deliveryTo(told.endpoint, 1)
  t.ok(pause > 1200 && pause <= 1234, `${pause} s`)
})

t.test('timeout 15 s: an endpoint that does not answer has failed', async (t) => {
  const silent = await receive(t, { answers: ['never'] })
  const endpoint = await register(t, silent.url)
  await submitTo(endpoint, '/sums', { numbers: [1] })
  await silent.arrived(1)
  const begun = (await deliveriesTo(endpoint))[0]
  t.match(begun, { state: 'running' })
  const { updated_at } = await deliveryTo(endpoint, 1)
  const seconds = (updated_at - begun.attempt_started_at) / 1000
  t.ok(seconds >= 14.5, `held for ${seconds} s`)
})

t.test(
  'retries at about 5 s, 5 min, 30 min, 2 h, 5 h, 10 h and 24 h, with jitter, and then it has failed',
  async (t) => {
    const told = await subscribe(t, { answers: [{ status: 500 }] })
    await deliveredTo(told)
    const planned = [5 * second, 5 * minute, 30 * minute, 2 * hour, 5 * hour, 10 * hour, 24 * hour]
    const pauses: number[] = []
    for (const [index, about] of planned.entries()) {
      const { pause } = await deliveryTo(told.endpoint, index + 1)
      t.ok(pause > about * 0.8 - 2 && pause < about * 1.25, `${pause} s is about ${about} s`)
      pauses.push(pause)
      await hasten()
    }
    t.notSame(pauses, planned)
    t.match(await deliveryTo(told.endpoint, 8), { state: 'failed' })
    t.equal(told.receiver.received.length, 8)
  },
)

t.test(
  'private, loopback and link-local addresses are refused after DNS resolution, unless allow-listed',
  async (t) => {
    const strict = await serve(t, { worker: false })
    const env = { PUBLIC_URL: strict.api.url, WEBHOOK_ALLOW: '127.0.0.2' }
    await startWorker(t, strict.databaseUrl, `${claimed},webhook.deliver`, env)
    const receiver = await receive(t)
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
    ]
    for (const host of hosts) {
      await strict.as('ops').post('/webhooks', { url: `http://${host}:${port}/hook` })
    }
    const client = strict.as('ann')
    await client.submit('/sums', { numbers: [1] })
    const errors = await until(async () => {
      const { rows } = await strict.pool.query(
        "select attempt.error from accepted.attempt join accepted.job on job.id = job_id where operation = 'webhook.deliver'",
      )
      return rows.length === hosts.length && rows.map(({ error }) => error.code)
    })
    t.same([...new Set(errors)], ['address-refused'])
    t.equal(receiver.connections(), 0)
  },
)
