import { defineOperation } from 'accepted'
import t from 'tap'
import Type from 'typebox'
import { newEncryptionKey } from '../../../src/primitives/key-ring.ts'
import { serve } from '../../support/api.ts'
import { get, post } from '../../support/client.ts'

const createNote = defineOperation({
  name: 'note.create',
  route: { method: 'POST', url: '/notes' },
  input: Type.Object({ text: Type.String() }),
})

const setUp = (t: Parameters<typeof serve>[0], encryptionKeys?: string) =>
  serve(t, {
    ...(encryptionKeys && { encryptionKeys }),
    operations: { createNote },
    authenticate: ({ headers }) => {
      if (headers['x-user'] === 'nobody') return null
      return headers['x-user'] === 'ops' ? { principal: 'ops', scopes: ['admin'] } : 'ann'
    },
  })

const ops = { 'x-user': 'ops' }

async function remove(url: string, headers: Record<string, string> = ops) {
  return (await fetch(url, { method: 'DELETE', headers })).status
}

const rotate = (url: string) => fetch(`${url}/rotate`, { method: 'POST', headers: ops })

t.test(
  'endpoints can be registered, listed, rotated and removed; only register and rotate answer with a secret',
  async (t) => {
    const { url } = await setUp(t)
    const created = await post(`${url}/webhooks`, { url: 'https://Example.com/hook?a=1' }, ops)
    t.equal(created.status, 201)
    t.equal(created.headers.get('cache-control'), 'no-store')
    const { id, secret, ...shown } = created.body
    const location = created.headers.get('location') as string
    t.equal(location, `${url}/webhooks/${id}`)
    t.match(secret, /^whsec_[A-Za-z0-9+/]{43}=$/)
    t.match(shown, {
      url: 'https://example.com/hook?a=1',
      eventTypes: ['job.succeeded', 'job.failed', 'job.canceled'],
      createdAt: /Z$/,
    })
    t.notOk('operations' in shown)
    const narrow = { url: 'http://10.0.0.1/', eventTypes: ['job.failed'], operations: ['note.create'] }
    const second = await post(`${url}/webhooks`, narrow, ops)
    t.match(second.body, narrow)

    t.same((await get(location, ops)).body, { id, ...shown })
    const { secret: _, ...other } = second.body
    t.same((await get(`${url}/webhooks`, ops)).body, { value: [{ id, ...shown }, other] })

    const rotated = await rotate(location)
    t.equal(rotated.status, 200)
    const body = (await rotated.json()) as { secret: string }
    t.match(body, { id, secret: /^whsec_/ })
    t.not(body.secret, secret)

    t.equal(await remove(location), 204)
    t.equal(await remove(location), 404)
    t.match(await get(location, ops), { status: 404, body: { error: { code: 'not-found' } } })
    t.equal((await rotate(location)).status, 404)
    t.equal(await remove(`${url}/webhooks/x`), 404)
    t.same((await get(`${url}/webhooks`, ops)).body, { value: [other] })
  },
)

t.test('requests without the scope admin get 403, and the problem page explains how to get the scope', async (t) => {
  const { database, url } = await setUp(t)
  const { body } = await post(`${url}/webhooks`, { url: 'http://example.com' }, ops)
  const problem = { status: 403, body: { type: '/docs/problems/forbidden', error: { code: 'forbidden' } } }
  t.match(await post(`${url}/webhooks`, { url: 'http://example.com' }), problem)
  t.match(await post(`${url}/webhooks`, 'not validated'), problem)
  t.match(await get(`${url}/webhooks`), problem)
  t.match(await get(`${url}/webhooks/${body.id}`), problem)
  t.match(await post(`${url}/webhooks/${body.id}/rotate`, {}), problem)
  t.equal(await remove(`${url}/webhooks/${body.id}`, {}), 403)
  t.equal((await get(`${url}/webhooks`, { 'x-user': 'nobody' })).status, 401)
  t.match((await get(`${url}/docs/problems/forbidden`)).body, 'accepted keys add &lt;name&gt; --scopes')
  const { rows } = await database.pool.query('select cardinality(secrets) as secrets from accepted.webhook_endpoint')
  t.same(rows, [{ secrets: 1 }])
  t.equal((await post(`${url}/notes`, { text: 'x' })).status, 202, 'other routes do not need the scope')
})

t.test('an invalid endpoint gets 400 with a pointer to the violation', async (t) => {
  const { database, url } = await setUp(t)
  for (const [endpoint, pointer] of [
    [{ url: 'nonsense' }, '/url'],
    [{ url: '/hook' }, '/url'],
    [{ url: 'ftp://example.com' }, '/url'],
    [{ url: 'javascript:alert(1)' }, '/url'],
    [{ url: 'https://ann@example.com' }, '/url'],
    [{ url: 'https://:secret@example.com' }, '/url'],
    [{ url: 'https://example.com/#here' }, '/url'],
    [{ url: 'https://example.com/#' }, '/url'],
    [{ url: `https://example.com/${'x'.repeat(2000)}` }, '/url'],
    [{ url: `https://example.com/${'é'.repeat(1000)}` }, '/url'],
    [{ url: 7 }, '/url'],
    [{}, ''],
    [{ url: 'https://example.com', operations: ['note.create', 'note.crate'] }, '/operations/1'],
    [{ url: 'https://example.com', operations: ['webhook.deliver'] }, '/operations/0'],
    [{ url: 'https://example.com', operations: [] }, '/operations'],
    [{ url: 'https://example.com', eventTypes: ['job.queued'] }, '/eventTypes/0'],
    [{ url: 'https://example.com', eventTypes: [] }, '/eventTypes'],
    [{ url: 'https://example.com', principal: '' }, '/principal'],
    [{ url: 'https://example.com', principal: 'webhook:x' }, '/principal'],
    [{ url: 'https://example.com', secret: 'mine' }, ''],
  ] as const) {
    const { status, body } = await post(`${url}/webhooks`, endpoint, ops)
    t.equal(status, 400, JSON.stringify(endpoint).slice(0, 60))
    t.match(body, { error: { code: 'invalid-body', details: [{ pointer }] } })
  }
  const { rows } = await database.pool.query('select from accepted.webhook_endpoint')
  t.equal(rows.length, 0)
})

t.test(
  'Accepted-Webhook selects one endpoint; a request with an unknown endpoint gets 400 and stores nothing',
  async (t) => {
    const { database, url } = await setUp(t)
    const { id } = (await post(`${url}/webhooks`, { url: 'http://example.com' }, ops)).body
    const submit = (webhook: string) =>
      post(`${url}/notes`, { text: 'x' }, { 'accepted-webhook': webhook, 'idempotency-key': 'k' })
    for (const webhook of [crypto.randomUUID(), 'nonsense', '', `${id}, ${id}`]) {
      const { status, body } = await submit(webhook)
      t.equal(status, 400, webhook)
      t.match(body, { type: '/docs/problems/unknown-webhook', error: { code: 'unknown-webhook' } })
    }
    const count = await database.pool.query('select from accepted.job')
    t.equal(count.rows.length, 0)
    t.equal((await submit(id.toUpperCase())).status, 202, 'the refused requests did not take the key')
    t.equal((await post(`${url}/notes`, { text: 'x' })).status, 202)
    const { rows } = await database.pool.query('select webhook_endpoint_id as id from accepted.job order by job.id')
    t.same(rows, [{ id }, { id: null }])
  },
)

t.test('Accepted-Webhook may name only an endpoint of all principals or of the caller', async (t) => {
  const { database, url } = await setUp(t)
  const register = async (principal?: string) =>
    (await post(`${url}/webhooks`, { url: 'http://example.com', ...(principal && { principal }) }, ops)).body
  const [shared, ofAnn, ofBob] = [await register(), await register('ann'), await register('bob')]
  t.match(ofAnn, { principal: 'ann' })
  t.notOk('principal' in shared)
  const submit = (webhook: string) => post(`${url}/notes`, { text: 'x' }, { 'accepted-webhook': webhook })
  t.equal((await submit(shared.id)).status, 202)
  t.equal((await submit(ofAnn.id)).status, 202)
  const [foreign, absent] = [await submit(ofBob.id), await submit(crypto.randomUUID())]
  t.equal(foreign.status, 400)
  t.same(foreign.body, absent.body, 'the endpoint of another principal looks as if it did not exist')
  const batch = { items: [{ operation: 'note.create', input: { text: 'x' } }] }
  t.equal((await post(`${url}/batches`, batch, { 'accepted-webhook': ofBob.id })).status, 400)
  t.equal((await post(`${url}/batches`, batch, { 'accepted-webhook': ofAnn.id })).status, 202)
  const { rows } = await database.pool.query(
    'select operation, webhook_endpoint_id as id from accepted.job order by job.id desc limit 2',
  )
  t.same(
    rows.sort((one, other) => one.operation.localeCompare(other.operation)),
    [
      { operation: 'batch', id: ofAnn.id },
      { operation: 'note.create', id: ofAnn.id },
    ],
  )
})

t.test('the plugin encrypts new and rotated secrets with its option encryptionKeys', async (t) => {
  const { database, url } = await setUp(t, newEncryptionKey('k1'))
  const { body } = await post(`${url}/webhooks`, { url: 'http://example.com' }, ops)
  t.match(body.secret, /^whsec_/)
  t.equal((await rotate(`${url}/webhooks/${body.id}`)).status, 200)
  const { rows } = await database.pool.query('select secret_key_ids as keys from accepted.webhook_endpoint')
  t.same(rows, [{ keys: ['k1', 'k1'] }])
})

t.test('an endpoint can be tested, and the outcome of a job can be delivered again', async (t) => {
  const { database, url } = await setUp(t)
  const { id } = (await post(`${url}/webhooks`, { url: 'http://example.com', principal: 'ann' }, ops)).body
  const note = (await post(`${url}/notes`, { text: 'x' })).body
  const resend = (jobId: unknown, endpoint = id) => post(`${url}/webhooks/${endpoint}/resend`, { jobId }, ops)
  t.match(await resend(note.id), { status: 409, body: { error: { code: 'job-not-ended' } } })
  await fetch(`${url}/jobs/${note.id}/cancel`, { method: 'POST' })

  const test = await post(`${url}/webhooks/${id}/test`, {}, ops)
  const resent = await resend(note.id)
  for (const { status, body, headers } of [test, resent]) {
    t.equal(status, 202)
    t.match(body, { operation: 'webhook.deliver', status: 'queued' })
    t.match(await get(headers.get('operation-location') as string, ops), { status: 200, body: { id: body.id } })
    t.equal((await get(headers.get('operation-location') as string)).status, 404, 'others do not see the delivery')
  }
  const { rows } = await database.pool.query(
    `select data -> 'payload' as payload, group_id from accepted_queue.job where id = any($1) order by id`,
    [[test.body.id, resent.body.id]],
  )
  t.same(rows, [
    { payload: { endpointId: id }, group_id: id },
    { payload: { endpointId: id, jobId: note.id }, group_id: id },
  ])

  const ofBob = (await post(`${url}/webhooks`, { url: 'http://example.com', principal: 'bob' }, ops)).body
  for (const answer of [
    ...[await resend(note.id, ofBob.id), await resend(crypto.randomUUID()), await resend(note.id, crypto.randomUUID())],
    ...[await resend(note.id, 'x'), await post(`${url}/webhooks/x/test`, {}, ops)],
  ]) {
    t.match(answer, { status: 404, body: { error: { code: 'not-found' } } })
  }
  t.equal((await resend('x')).status, 400)
  t.equal((await post(`${url}/webhooks/${id}/test`, {})).status, 403)
})

t.test('the OpenAPI document describes the webhook routes', async (t) => {
  const { url } = await setUp(t)
  const { body } = await get(`${url}/openapi.json`)
  t.match(body.paths['/webhooks'].post, { operationId: 'createWebhook', responses: { '201': {}, '403': {} } })
})
