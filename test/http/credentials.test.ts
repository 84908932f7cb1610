import { once } from 'node:events'
import { defineOperation } from 'accepted'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { WebSocket } from 'ws'
import { createKey, type NewApiKey, revokeKey } from '../../src/jobs/api-key.ts'
import { serve } from '../support/api.ts'
import { get, post } from '../support/client.ts'
import { until } from '../support/until.ts'

const note = defineOperation({
  name: 'note.create',
  route: { method: 'POST', url: '/notes' },
  input: Type.Object({ text: Type.String() }),
})

const bearer = (key: string) => ({ authorization: `Bearer ${key}` })

async function setUp(t: Test, prepare?: (app: FastifyInstance) => void, operations: object = { note }) {
  const api = await serve(t, { operations }, prepare)
  const { kysely, pool } = api.database
  const addKey = (key: NewApiKey) => kysely.transaction().execute((trx) => createKey(trx as never, key))
  const revoke = (id: string) => kysely.transaction().execute((trx) => revokeKey(trx as never, id))
  const query = async (text: string, values: unknown[] = []) => (await pool.query(text, values)).rows
  return { ...api, addKey, revoke, query }
}

/** Opens a stream. `ended` resolves when it has ended. */
async function openStream(
  t: Test,
  url: string,
  headers: Record<string, string> = {},
): Promise<{ ended: Promise<unknown> }> {
  const response = await fetch(url, { headers: { accept: 'text/event-stream', ...headers } })
  t.equal(response.status, 200)
  return { ended: response.text() }
}

/** Whether a promise resolves while an unrelated stream stays open. */
const isPending = async (promise: Promise<unknown>) =>
  (await Promise.race([promise, new Promise((resolve) => setImmediate(resolve, 'pending'))])) === 'pending'

t.test('streams, WebSockets and long polls end when their key is revoked or expires; others continue', async (t) => {
  const { url, addKey, revoke, query } = await setUp(t)
  for (const end of [
    (id: string) => revoke(id),
    (id: string) => query('update accepted.api_key set expires_at = now() where id = $1', [id]),
    (id: string) => query('delete from accepted.api_key where id = $1', [id]),
  ]) {
    const [ending, staying] = [await addKey({ name: 'ann' }), await addKey({ name: 'phone', principal: 'ann' })]
    const { links } = (await post(`${url}/notes`, { text: 'x' }, bearer(ending.key))).body
    const socket = new WebSocket(`${url}/events`.replace('http', 'ws'), 'cloudevents.json', {
      headers: bearer(ending.key),
    })
    await once(socket, 'open')
    const closed = once(socket, 'close')
    const stream = await openStream(t, links.events, bearer(ending.key))
    const allEvents = await openStream(t, `${url}/events`, bearer(ending.key))
    const waiting = get(links.self, { ...bearer(ending.key), prefer: 'wait=50' })
    const other = await openStream(t, links.events, bearer(staying.key))

    await end(ending.id)
    await Promise.all([stream.ended, allEvents.ended])
    const [code, reason] = await closed
    t.same([code, `${reason}`], [1008, 'The credential is no longer valid'])
    t.match(await waiting, { status: 401, body: { error: { code: 'unauthenticated' } } })
    t.ok(await isPending(other.ended), 'the stream with another key continues')
    await post(links.cancel, {}, bearer(staying.key))
    await other.ended
  }
})

t.test('an anonymous stream ends when the first key exists', async (t) => {
  const { url, addKey } = await setUp(t)
  const stream = await openStream(t, `${url}/events`)
  await addKey({ name: 'first' })
  await stream.ended
  await until(async () => (await get(`${url}/jobs`)).status === 401)
})

t.test(
  'a link that was created without a key is refused, and its stream ends, when the first key exists',
  async (t) => {
    const { url, addKey } = await setUp(t)
    const { links } = (await post(`${url}/notes`, { text: 'x' })).body
    const link = (await post(`${links.self}/links`, {})).body
    const stream = await openStream(t, link.events)
    await addKey({ name: 'first' })
    await stream.ended
    t.equal((await get(link.page)).status, 401)
  },
)

t.test('a route of the app with an authentication of its own may wait for a job while keys exist', async (t) => {
  const { url, app, addKey, query } = await setUp(t, (app) => {
    app.post('/own', async (_request, reply) => {
      const { db, enqueue } = app.accepted
      return reply.accepted(await db.transaction().execute((trx) => enqueue(trx, note, { text: 'x' })))
    })
  })
  await addKey({ name: 'first' })
  const waiting = post(`${url}/own`, {}, { prefer: 'wait=50' })
  const id = await until(async () => (await query('select id from accepted.job'))[0]?.id)
  // The credentials of other requests are checked in the meantime.
  const { key } = await addKey({ name: 'second' })
  const other = await openStream(t, `${url}/events`, bearer(key))
  await query('update accepted.api_key set revoked_at = now()')
  await other.ended
  await app.accepted.db.transaction().execute((trx) => sql`select accepted.cancel(${id})`.execute(trx))
  t.match(await waiting, { status: 200, body: { status: 'canceled' } })
})

t.test('authenticate may return an id of a key that is no API key', async (t) => {
  const keyId = '01a1fd26-9b1c-7c3e-9d0f-2f4f1f0f6a51'
  const expiresAt = new Date(Date.now() + 3_600_000)
  const authenticate = ({ headers }: FastifyRequest) =>
    headers.authorization ? { principal: 'bob', expiresAt } : { principal: 'ann', keyId }
  const { url } = await serve(t, { operations: { note }, authenticate })
  const stream = await openStream(t, `${url}/events`)
  const { links } = (await post(`${url}/notes`, { text: 'x' })).body
  const waiting = get(links.self, { prefer: 'wait=50' })
  const expiring = await openStream(t, `${url}/events`, bearer('x'))
  expiresAt.setTime(Date.now())
  await expiring.ended
  t.ok(await isPending(stream.ended), 'the stream continues after a check')
  t.ok(await isPending(waiting), 'and so does the wait')
  await post(links.cancel, {})
  t.equal((await waiting).status, 200)
})

t.test('a link expires with the credential that created it', async (t) => {
  const expiresAt = new Date(Date.now() + 60_000)
  const { url } = await serve(t, { operations: { note }, authenticate: () => ({ principal: 'ann', expiresAt }) })
  const { links } = (await post(`${url}/notes`, { text: 'x' })).body
  t.match(await post(`${links.self}/links`, {}), { status: 201, body: { expiresAt: expiresAt.toISOString() } })
})

t.test('the stream of a credential of the app ends when the credential expires', async (t) => {
  let expiresAt = new Date(Date.now() + 3_600_000)
  const { url } = await serve(t, { operations: { note }, authenticate: () => ({ principal: 'ann', expiresAt }) })
  const stream = await openStream(t, `${url}/events`)
  expiresAt.setTime(Date.now())
  await stream.ended
  t.equal((await get(`${url}/jobs`)).status, 401, 'an expired credential is refused')
  expiresAt = new Date(Date.now() + 3_600_000)
  t.equal((await get(`${url}/jobs`)).status, 200)
})

t.test('a link reads one job without a header: its page, events, monitor and result, and nothing else', async (t) => {
  const { url, addKey, query } = await setUp(t)
  const { key } = await addKey({ name: 'ann' })
  const created = (await post(`${url}/notes`, { text: 'x' }, bearer(key))).body
  const other = (await post(`${url}/notes`, { text: 'y' }, bearer(key))).body
  const made = await post(`${created.links.self}/links`, {}, bearer(key))
  t.equal(made.status, 201)
  t.equal(made.headers.get('cache-control'), 'no-store')
  t.same(Object.keys(made.body), ['events', 'page', 'expiresAt'])
  const left = Date.parse(made.body.expiresAt) - Date.now()
  t.ok(left > 200_000 && left <= 301_000, `it expires in ${left} ms`)

  const { search } = new URL(made.body.page)
  t.match((await get(made.body.page, { accept: 'text/html' })).body, `data-events="${created.id}/events${search}"`)
  t.match(await get(made.body.page), { status: 200, body: { id: created.id } })
  t.equal((await get(`${created.links.result}${search}`)).status, 202)
  const events = await fetch(made.body.events, { headers: { accept: 'text/event-stream' } })
  t.equal(events.status, 200)
  const ended = events.text()

  t.equal((await get(`${other.links.self}${search}`)).status, 404, 'another job of the same principal')
  for (const path of [`${url}/jobs${search}`, `${url}/events${search}`]) t.equal((await get(path)).status, 401, path)
  for (const action of ['cancel', 'retry', 'links']) {
    t.equal((await post(`${created.links.self}/${action}${search}`, {})).status, 401, action)
  }
  t.equal((await get(`${created.links.self}?token=wrong`)).status, 401)
  t.equal((await get(made.body.page, bearer('wrong'))).status, 401, 'a header goes before a token')

  await query(`update accepted.job_link set expires_at = now()`)
  t.equal((await get(made.body.page)).status, 401)
  const stored = JSON.stringify(await query('select * from accepted.job_link'))
  t.notMatch(stored, search.slice('?token='.length))
  await query('update accepted.api_key set revoked_at = now()')
  await ended
})

t.test('a stream that a link has opened ends with the link', async (t) => {
  const { url, addKey, query, revoke } = await setUp(t)
  const { id: keyId, key } = await addKey({ name: 'ann' })
  const { links } = (await post(`${url}/notes`, { text: 'x' }, bearer(key))).body
  const first = (await post(`${links.self}/links`, {}, bearer(key))).body
  await query(`update accepted.job_link set expires_at = now() + interval '5 s'`)
  await (await openStream(t, first.events)).ended
  const second = (await post(`${links.self}/links`, {}, bearer(key))).body
  t.same(
    await query('select count(*)::int as links from accepted.job_link'),
    [{ links: 1 }],
    'expired links are deleted',
  )
  const stream = await openStream(t, second.events)
  await revoke(keyId)
  await stream.ended
  t.equal((await get(second.page)).status, 401, 'the link of a revoked key')
})

t.test('an admin creates, lists, rotates and revokes keys over HTTP', async (t) => {
  const { url, addKey, query } = await setUp(t)
  const admin = bearer((await addKey({ name: 'root', scopes: ['admin'] })).key)
  const created = await post(
    `${url}/keys`,
    { name: 'phone', principal: 'ann', scopes: ['read'], operations: ['note.create'], expiresInSeconds: 864_000 },
    admin,
  )
  t.match(created, {
    status: 201,
    body: {
      name: 'phone',
      principal: 'ann',
      scopes: ['read'],
      operations: ['note.create'],
      status: 'valid',
      key: /^accepted_/,
    },
  })
  t.equal((await get(`${url}/jobs`, bearer(created.body.key))).status, 200)
  const rotated = await post(`${url}/keys/${created.body.id}/rotate`, {}, admin)
  t.match(rotated, {
    status: 201,
    body: { scopes: ['read'], operations: ['note.create'], rotatedFrom: created.body.id },
  })
  t.equal((await get(`${url}/jobs`, bearer(created.body.key))).status, 200, 'the old key is still accepted')
  t.equal((await get(`${url}/jobs`, bearer(rotated.body.key))).status, 200)

  const listed = await get(`${url}/keys`, admin)
  t.match(listed.body.value, [{ name: 'root' }, { id: created.body.id }, { id: rotated.body.id }])
  t.notMatch(JSON.stringify(listed.body), /"key":|hash/)
  const revoked = await fetch(`${url}/keys/${rotated.body.id}`, { method: 'DELETE', headers: admin })
  t.equal(revoked.status, 204)
  await until(async () => (await get(`${url}/jobs`, bearer(rotated.body.key))).status === 401)
  for (const [method, path] of [
    ['DELETE', `/keys/${rotated.body.key}`],
    ['POST', '/keys/x/rotate'],
    ['POST', `/keys/${rotated.body.id}/rotate`],
  ] as const) {
    t.equal((await fetch(url + path, { method, headers: admin })).status, 404, path)
  }
  for (const [body, pointer] of [
    [{ name: ' ' }, '/name'],
    [{ name: 'x', principal: 'webhook:1' }, '/principal'],
    [{ name: 'x', operations: ['unknown'] }, '/operations/0'],
    [{ name: 'x', scopes: ['all'] }, '/scopes/0'],
    [{ name: 'x', expiresInSeconds: 0 }, '/expiresInSeconds'],
  ] as const) {
    t.match(await post(`${url}/keys`, body, admin), { status: 400, body: { error: { details: [{ pointer }] } } })
  }
  const [root] = listed.body.value
  t.match(
    await query(`select action, key_id, principal, object from accepted.audit where principal = 'root' order by id`),
    [
      { action: 'key.created', key_id: root.id, object: created.body.id },
      { action: 'key.changed', object: created.body.id },
      { action: 'key.created', object: rotated.body.id },
      { action: 'key.revoked', object: rotated.body.id },
    ],
  )
  t.match(await query('select name, status from accepted.key_overview order by id'), [
    { name: 'root', status: 'valid' },
    { name: 'phone', status: 'valid' },
    { name: 'phone', status: 'revoked' },
  ])
})

t.test('a key that is limited to operations submits and sees only jobs of these', async (t) => {
  const other = defineOperation({
    ...{ name: 'other', input: Type.Object({}) },
    route: { method: 'POST', url: '/others' },
  })
  const { url, database } = await serve(t, { operations: { note, other } })
  const addKey = (key: NewApiKey) => database.kysely.transaction().execute((trx) => createKey(trx as never, key))
  const all = bearer((await addKey({ name: 'ann' })).key)
  const limited = bearer((await addKey({ name: 'ann', operations: ['note.create'] })).key)
  const hidden = (await post(`${url}/others`, {}, all)).body
  t.match(await post(`${url}/others`, {}, limited), { status: 403, body: { error: { code: 'forbidden' } } })
  const batch = { items: [{ operation: 'other', input: {} }] }
  t.match(await post(`${url}/batches`, batch, limited), {
    status: 400,
    body: { error: { details: [{ pointer: '/items/0/operation' }] } },
  })
  const seen = (await post(`${url}/notes`, { text: 'x' }, limited)).body
  t.equal((await get(hidden.links.self, limited)).status, 404)
  const { value } = (await get(`${url}/jobs`, limited)).body
  t.same(
    value.map(({ id }: { id: string }) => id),
    [seen.id],
  )
  const socket = new WebSocket(`${url}/events`.replace('http', 'ws'), 'cloudevents.json', { headers: limited })
  const [message] = await once(socket, 'message')
  t.equal(JSON.parse(String(message)).data.id, seen.id)
  socket.terminate()
})

t.test('a key that is limited to operations cannot cancel a batch with other jobs, or manage keys', async (t) => {
  const other = defineOperation({
    ...{ name: 'other', input: Type.Object({}) },
    route: { method: 'POST', url: '/others' },
  })
  const { url, addKey } = await setUp(t, undefined, { note, other })
  const all = bearer((await addKey({ name: 'ann' })).key)
  const limited = bearer((await addKey({ name: 'ann', operations: ['note.create'] })).key)
  const note1 = { operation: 'note.create', input: { text: 'x' } }
  const mixed = (await post(`${url}/batches`, { items: [note1, { operation: 'other', input: {} }] }, all)).body
  for (const [method, path] of [
    ['POST', mixed.links.cancel],
    ['DELETE', mixed.links.self],
  ]) {
    t.equal((await fetch(path, { method, headers: limited })).status, 403)
  }
  t.equal((await post(mixed.links.cancel, {}, all)).status, 200)
  const own = (await post(`${url}/batches`, { items: [note1, note1] }, all)).body
  t.equal((await post(own.links.cancel, {}, limited)).status, 200)

  const admin = bearer((await addKey({ name: 'root', scopes: ['admin'], operations: ['note.create'] })).key)
  for (const path of ['/keys', '/webhooks']) {
    t.match(await get(url + path, admin), { status: 403, body: { error: { code: 'forbidden' } } })
  }
  t.equal((await post(`${url}/keys`, { name: 'x', scopes: ['admin'] }, admin)).status, 403)
  const useless = bearer((await addKey({ name: 'ann', operations: ['gone'] })).key)
  t.equal((await post(`${url}/batches`, { items: [note1] }, useless)).status, 403)
})

t.test('an operator lists the jobs of all principals, and retries for their owners', async (t) => {
  const { url, addKey } = await setUp(t)
  const ann = bearer((await addKey({ name: 'ann' })).key)
  const bob = bearer((await addKey({ name: 'bob' })).key)
  const ops = bearer((await addKey({ name: 'ops', scopes: ['operate'] })).key)
  const ofAnn = (await post(`${url}/notes`, { text: 'x' }, ann)).body
  const ofBob = (await post(`${url}/notes`, { text: 'x' }, bob)).body
  const ids = async (path: string) => (await get(url + path, ops)).body.value.map(({ id }: { id: string }) => id)
  t.same(await ids('/jobs'), [], 'without the parameter, its own jobs')
  t.same(await ids('/jobs?principal=ann'), [ofAnn.id])
  t.same(await ids('/jobs?principal=*'), [ofBob.id, ofAnn.id])
  t.same(await ids('/jobs?principal=*&limit=1'), [ofBob.id])
  const page = (await get(`${url}/jobs?principal=*&limit=1`, ops)).body
  t.match((await get(page.nextLink, ops)).body.value, [{ id: ofAnn.id }])
  for (const principal of ['ann', '*', 'bob']) {
    t.equal((await get(`${url}/jobs?principal=${principal}`, ann)).status, 403)
  }
  t.equal((await post(ofAnn.links.cancel, {}, ops)).status, 200)
  const key = { ...ops, 'idempotency-key': 'once' }
  const retried = await post(ofAnn.links.retry, {}, key)
  t.match(retried, { status: 202, body: { retryOf: ofAnn.id } })
  t.match(await post(ofAnn.links.retry, {}, key), { status: 202, body: { id: retried.body.id } }, 'replayed')
  t.equal((await get(retried.body.links.self, ann)).status, 200, 'the retry belongs to the owner of the job')
  t.equal((await get(retried.body.links.self, bob)).status, 404)
})
