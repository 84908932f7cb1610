import { defineOperation } from 'accepted'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { problems } from '../../src/problems.ts'
import { maxRegistrationMs, serve } from '../support/api.ts'
import { get, post } from '../support/client.ts'
import { asRole } from '../support/database.ts'
import { startProxy } from '../support/proxy.ts'

const operation = defineOperation({
  name: 'note.create',
  summary: 'Create a note',
  route: { method: 'POST', url: '/notes' },
  input: Type.Object({ text: Type.String() }),
})
const setUp = (t: Test) => serve(t, { operations: { operation } })

t.test('the API is live and ready; while the schema is outdated, the API is live but not ready', async (t) => {
  const { database, url } = await setUp(t)
  t.match(await get(`${url}/health/live`), { status: 200, body: { status: 'live' } })
  t.match(await get(`${url}/health/ready`), { status: 200, body: { status: 'ready' } })
  await database.pool.query('delete from accepted.migration')
  t.match(await get(`${url}/health/ready`), { status: 503, body: { error: { code: 'schema-outdated' } } })
  t.equal((await get(`${url}/health/live`)).status, 200)
})

t.test(
  'while Postgres is unavailable, requests get 503 without internal details; afterwards, the API recovers',
  async (t) => {
    const { database } = await setUp(t)
    const proxy = await startProxy(t, database.options.url)
    const { accepted } = await import('accepted')
    const app = Fastify({ pluginTimeout: maxRegistrationMs })
    t.teardown(() => app.close())
    await app.register(accepted, {
      operations: { operation },
      database: asRole(proxy.url, 'api'),
      routes: { health: '/health' },
    })
    const url = await app.listen({ host: '127.0.0.1', port: 0 })
    await proxy.close()
    const { status, headers, body } = await post(`${url}/notes`, { text: 'x' })
    t.equal(status, 503)
    t.match(headers.get('retry-after'), /^[1-9]/)
    t.same(body.error, { code: 'database-unavailable', message: 'The database does not answer' })
    t.equal((await get(`${url}/health/ready`)).status, 503)
    await proxy.open()
    t.equal((await post(`${url}/notes`, { text: 'x' })).status, 202)
  },
)

t.test('every problem code has an HTML page', async (t) => {
  const { url } = await setUp(t)
  for (const [code, { title }] of Object.entries(problems)) {
    const { status, headers, body } = await get(`${url}/docs/problems/${code}`)
    t.equal(status, 200, code)
    t.match(headers.get('content-type'), 'text/html')
    t.match(body, title.replaceAll('`', ''))
  }
  t.equal((await get(`${url}/docs/problems/none`)).status, 404)
  t.equal((await get(`${url}/docs/problems/toString`)).status, 404)
})

t.test('the OpenAPI document describes the routes of operations and jobs, and /docs shows the document', async (t) => {
  const { url } = await setUp(t)
  const { body } = await get(`${url}/openapi.json`)
  t.match(body.openapi, /^3\.1\./)
  t.same(Object.keys(body.paths).sort(), [
    ...['/batches', '/events', '/jobs', '/jobs/{id}', '/jobs/{id}/cancel', '/jobs/{id}/events'],
    ...['/jobs/{id}/links', '/jobs/{id}/result', '/jobs/{id}/retry', '/keys', '/keys/{id}', '/keys/{id}/rotate'],
    ...['/notes', '/webhooks', '/webhooks/{id}', '/webhooks/{id}/resend', '/webhooks/{id}/rotate'],
    '/webhooks/{id}/test',
  ])
  const { post: create } = body.paths['/notes']
  t.match(create, { operationId: 'note.create', summary: 'Create a note' })
  t.same(create.requestBody.content['application/json'].schema, operation.schemas.input)
  for (const status of ['400', '4XX', '503']) t.ok(create.responses[status].content['application/problem+json'], status)
  const page = await get(`${url}/docs`)
  t.match(page, { status: 200, body: /swagger/i })
})

t.test('the metrics count requests by route and outcome, in the Prometheus format', async (t) => {
  const { url } = await setUp(t)
  await post(`${url}/notes`, { text: 'x' }, { 'idempotency-key': 'k' })
  await post(`${url}/notes`, { text: 'x' }, { 'idempotency-key': 'k' })
  const { status, headers, body } = await get(`${url}/metrics`)
  t.equal(status, 200)
  t.match(headers.get('content-type'), 'text/plain; version=0.0.4')
  t.match(body, 'accepted_requests_total{operation="note.create",outcome="accepted"} 1\n')
  t.match(body, 'accepted_requests_total{operation="note.create",outcome="replayed"} 1\n')
  t.match(body, 'accepted_http_request_duration_seconds_count{method="POST",route="/notes",status="202"} 2\n')
  t.match(body, /^accepted_pool_connections [1-9]/m)
})

t.test('a request for an unknown route gets problem details', async (t) => {
  const { url } = await setUp(t)
  t.match(await get(`${url}/none?secret=1`), { status: 404, body: { instance: '/none', error: { code: 'not-found' } } })
})

t.test('the routes of the host app keep their parsers, validators and error handlers', async (t) => {
  const { accepted } = await import('accepted')
  const { database } = await setUp(t)
  const app = Fastify({ pluginTimeout: maxRegistrationMs })
  t.teardown(() => app.close())
  await app.register(accepted, { operations: { operation }, database: asRole(database.options.url, 'api') })
  app.post('/text', async (request) => ({ got: request.body }))
  app.get('/broken', async () => {
    throw new Error('error of the app')
  })
  app.post('/enqueue', async (_request, reply) => {
    const job = await app.accepted.db
      .transaction()
      .execute((trx) =>
        app.accepted.enqueue(trx, operation, { text: 'x' }, { principal: 'anonymous', resource: '/notes/1' }),
      )
    return reply.accepted(job)
  })
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  const text = await fetch(`${url}/text`, { method: 'POST', headers: { 'content-type': 'text/plain' }, body: 'x' })
  t.same(await text.json(), { got: 'x' })
  t.match(await get(`${url}/broken`), { status: 500, body: { message: 'error of the app' } })

  const { status, headers, body } = await post(`${url}/enqueue`, {})
  t.equal(status, 202)
  t.equal(headers.get('location'), `${url}/jobs/${body.id}/result`)
  t.match(await get(body.links.self), { status: 200, body: { status: 'queued' } })
  await t.rejects(app.accepted.enqueue(app.accepted.db as never, operation, { text: 'x' }), /needs a transaction/)
  const other = defineOperation({ name: 'other', input: Type.Object({}) })
  await t.rejects(
    app.accepted.db.transaction().execute((trx) => app.accepted.enqueue(trx, other, {})),
    /is not registered/,
  )
})

t.test(
  'a pg client in a transaction can enqueue a job, and the job exists only if the transaction commits',
  async (t) => {
    const { app, database } = await setUp(t)
    const client = await database.pool.connect()
    t.teardown(() => client.release())
    for (const end of ['rollback', 'commit']) {
      await client.query('begin')
      await app.accepted.enqueue(client, operation, { text: end })
      await client.query(end)
    }
    await t.rejects(app.accepted.enqueue(client, operation, { text: 'x' }), /not in a transaction/)
    const { rows } = await database.pool.query("select data -> 'payload' as payload from accepted_queue.job")
    t.same(rows, [{ payload: { text: 'commit' } }])
  },
)
