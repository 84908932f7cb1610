import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import { defineOperation } from 'accepted'
import { createHandler, type Handler, type HandlerOptions } from 'accepted/http'
import express from 'express'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { get, post } from '../../support/client.ts'
import { asRole, createDatabase } from '../../support/database.ts'
import { startProxy } from '../../support/proxy.ts'
import { until } from '../../support/until.ts'

const note = defineOperation({
  name: 'note.create',
  route: { method: 'POST', url: '/notes' },
  input: Type.Object({ text: Type.String() }),
  bodyLimit: 2_000_000,
})
const operations = { note }
const log = pino({ level: process.env.LOG_LEVEL ?? 'silent' })
const admin = () => ({ principal: 'ann', scopes: ['admin'] })
const base = 'https://shop.example.com'

const databaseUrl = await createDatabase(t)

function open(t: Test, options: Partial<HandlerOptions> = {}): Handler {
  const database = asRole(databaseUrl, 'api')
  const handler = createHandler({ operations, database, log, authenticate: admin, ...options })
  t.teardown(() => handler.close())
  return handler
}

function submit(url: string, body: string | ReadableStream<Uint8Array>): Request {
  const headers = { 'content-type': 'application/json' }
  return new Request(url, { method: 'POST', body, headers, duplex: 'half' })
}

async function read(handler: Handler, url: string) {
  const response = await handler(new Request(url))
  return { status: response.status, text: await response.text() }
}

const handler = open(t, { routes: { metrics: '/metrics' } })

// biome-ignore lint/suspicious/noExplicitAny: the test checks the body
const jsonOf = async (response: Response): Promise<any> => response.json()

const openStreams = async () =>
  Number((await read(handler, `${base}/metrics`)).text.match(/^accepted_event_streams (\d+)/m)?.[1])

/** Opens the event stream of a new job, and waits for its first event. */
async function openStream(init: RequestInit = {}) {
  const { links } = await jsonOf(await handler(submit(`${base}/notes`, '{"text":"x"}')))
  const { status, headers, body } = await handler(new Request(links.events, init))
  const reader = (body as ReadableStream<Uint8Array>).getReader()
  const first = Buffer.from((await reader.read()).value ?? []).toString()
  return { status, headers, reader, first }
}

t.test('the links in a response have the origin of the request', async (t) => {
  const accepted = await handler(submit(`${base}/notes?a=1`, '{"text":"x"}'))
  const job = await jsonOf(accepted)
  t.equal(accepted.status, 202)
  t.equal(accepted.headers.get('location'), `${base}/jobs/${job.id}/result`)
  for (const name of ['connection', 'keep-alive', 'transfer-encoding']) t.equal(accepted.headers.get(name), null)
  const monitor = await read(handler, job.links.self)
  t.match(JSON.parse(monitor.text), { id: job.id, links: job.links })
})

t.test('the links have the host that the client called, although the URL of the request has another', async (t) => {
  const send = (host: string) => {
    // Next.js gives each request the host on which its server listens.
    const request = submit('http://localhost:3000/notes', '{"text":"x"}')
    request.headers.set('host', host)
    return handler(request)
  }
  const { id, links } = await jsonOf(await send('shop.example.com:8080'))
  t.equal(links.self, `http://shop.example.com:8080/jobs/${id}`)
  t.equal((await send('a, b')).status, 400)
})

t.test('a response without content has no body', async (t) => {
  const { links } = await jsonOf(await handler(submit(`${base}/notes`, '{"text":"x"}')))
  const { text } = await read(handler, links.self)
  const head = await handler(new Request(links.self, { method: 'HEAD' }))
  t.same([head.status, head.body, head.headers.get('content-length')], [200, null, String(Buffer.byteLength(text))])
  const options = await handler(new Request(links.self, { method: 'OPTIONS' }))
  t.same([options.status, options.body, options.headers.get('allow')], [204, null, 'GET, HEAD, DELETE, OPTIONS'])
  const unchanged = await handler(new Request(links.self, { headers: { 'if-none-match': '"1"' } }))
  t.same([unchanged.status, unchanged.body], [304, null])
})

t.test('errors are problem details', async (t) => {
  const invalid = await handler(submit(`${base}/notes`, '{"text":1}'))
  t.equal(invalid.headers.get('content-type'), 'application/problem+json; charset=utf-8')
  t.match(await invalid.json(), { error: { code: 'invalid-body' } })
  t.match(JSON.parse((await read(handler, `${base}/none`)).text), { instance: '/none', error: { code: 'not-found' } })
  const repeated = submit(`${base}/notes`, '{"text":"x"}')
  for (const key of ['a', 'b']) repeated.headers.append('idempotency-key', key)
  t.match(await (await handler(repeated)).json(), { error: { code: 'invalid-idempotency-key' } })
  const request = submit(`${base}/notes`, '{"text":"x"}')
  await request.text()
  await t.rejects(handler(request), { name: 'TypeError', message: /already read/ })
})

t.test('a body is streamed, and only as fast as the API reads it', async (t) => {
  let sent = 0
  const chunk = new TextEncoder().encode('x'.repeat(100_000))
  const source = (chunks: number) =>
    new ReadableStream<Uint8Array>({
      async pull(controller) {
        await turn()
        if (sent === 0) controller.enqueue(new TextEncoder().encode('{"text":"'))
        sent += 1
        if (sent <= chunks) return controller.enqueue(chunk)
        controller.enqueue(new TextEncoder().encode('"}'))
        controller.close()
      },
    })
  t.equal((await handler(submit(`${base}/notes`, source(10)))).status, 202)
  sent = 0
  const tooLarge = await handler(submit(`${base}/notes`, source(10_000)))
  t.equal(tooLarge.status, 413)
  await tooLarge.body?.cancel()
  t.ok(sent < 100, `the API has read ${sent} of 10,000 chunks`)
})

t.test('an answer that comes before the end of the body was read leaves the process alone', async (t) => {
  const encoder = new TextEncoder()
  for (const [texts, answered] of [
    [['{"text":1}'], 400],
    [['{"text":', '1}'], 400],
    [['{"text":"x"}'], 202],
  ] as const) {
    const headers = { 'content-type': 'application/json', 'content-length': `${texts.join('').length}` }
    // As in Next.js: the API knows from Content-Length that the body is complete, and its end is read later.
    const body = (async function* read() {
      for (const text of texts) yield encoder.encode(text)
      await turn()
    })()
    const init = { method: 'POST', headers, body, duplex: 'half' } as unknown as RequestInit
    const { status } = await handler(new Request(`${base}/notes`, init))
    t.equal(status, answered)
  }
  // An error that is caught nowhere would be thrown by now.
  await turn()
})

t.test('an event stream ends when its reader cancels, or when the request is aborted', async (t) => {
  const canceled = await openStream()
  t.match(canceled.first, /^retry: 3000\n/)
  t.equal(canceled.headers.get('content-type'), 'text/event-stream; charset=utf-8')
  t.equal(await openStreams(), 1)
  await canceled.reader.cancel()
  await until(async () => (await openStreams()) === 0)
  const abort = new AbortController()
  const aborted = await openStream({ signal: abort.signal })
  abort.abort()
  await t.rejects(async () => {
    while (!(await aborted.reader.read()).done);
  })
  await until(async () => (await openStreams()) === 0)
  await t.rejects(handler(new Request(`${base}/jobs`, { signal: AbortSignal.abort() })), { name: 'AbortError' })
})

t.test('the address of the client decides about requests without a key', async (t) => {
  const { authenticate: _, ...options } = { operations, database: asRole(databaseUrl, 'api'), log, authenticate: admin }
  const clientAddress = (request: Request) => request.headers.get('x-client') ?? undefined
  const byKey = createHandler({ ...options, clientAddress })
  t.teardown(() => byKey.close())
  const statusFrom = async (headers: Record<string, string>) =>
    (await byKey(new Request(`${base}/jobs`, { headers }))).status
  t.equal(await statusFrom({}), 401)
  t.equal(await statusFrom({ 'x-client': '192.0.2.1' }), 401)
  t.equal(await statusFrom({ 'x-client': '127.0.0.1' }), 200)
})

t.test('jobs of the app are enqueued with the object of ready, and the commit notifies the workers', async (t) => {
  const { db, enqueue, get } = await handler.ready()
  const job = await db.transaction().execute((trx) => enqueue(trx, note, { text: 'x' }, { principal: 'ann' }))
  t.equal(job.links.self, `/jobs/${job.id}`)
  t.match(await get(job.id), { status: 'queued' })
  t.equal((await read(handler, base + job.links.self)).status, 200)
})

t.test('close ends streams, and the handler answers no more', async (t) => {
  const closing = open(t)
  const accepted = await closing(submit(`${base}/notes`, '{"text":"x"}'))
  const { body } = await closing(new Request((await jsonOf(accepted)).links.events))
  const events = new Response(body).text()
  await Promise.all([closing.close(), closing.close()])
  t.match(await events, /retry: \d+\n\n$/, 'the client is asked to reconnect')
  await t.rejects(closing(new Request(`${base}/jobs`)), /is closed/)
  await open(t).close()
})

t.test('while the database cannot be reached, the handler does not start; the next request tries again', async (t) => {
  const proxy = await startProxy(t, asRole(databaseUrl, 'api'))
  const cut = open(t, { database: proxy.url })
  await proxy.close()
  await t.rejects(cut.ready())
  await t.rejects(cut(new Request(`${base}/jobs`)))
  await proxy.open()
  t.equal((await read(cut, `${base}/jobs`)).status, 200)
})

t.test('options that are wrong are refused at once, before the first request', async (t) => {
  t.throws(() => createHandler({ operations: {}, database: '' }), /no operation/)
  t.throws(() => createHandler({ operations, database: '', publicUrl: 'shop' }), /publicUrl/)
  t.throws(() => createHandler({ operations, database: '', prefix: '/:id' }), /prefix/)
  t.throws(() => createHandler({ operations, database: '', routes: { jobs: 'jobs' } }), /routes\.jobs/)
})

async function listen(t: Test, server: Server): Promise<string> {
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

t.test('in Express, other routes and their bodies stay with the app', async (t) => {
  const mounted = open(t, { prefix: '/api' })
  const app = express()
  app.use('/api', mounted.node)
  app.use(express.json())
  app.all('/api/own', (request, response) => void response.json({ body: request.body, url: request.url }))
  const misplaced = open(t)
  app.use('/late', misplaced.node)
  app.use((error: Error, _request: unknown, response: express.Response, _next: unknown) => {
    response.status(500).json({ message: error.message })
  })
  const url = await listen(t, createServer(app))
  const { status, body } = await post(`${url}/api/notes`, { text: 'x' })
  t.match({ status, self: body.links.self }, { status: 202, self: `${url}/api/jobs/${body.id}` })
  t.match(await get(body.links.self), { status: 200, body: { id: body.id } })
  t.match(await post(`${url}/api/own`, { a: 1 }), { status: 200, body: { body: { a: 1 }, url: '/api/own' } })
  t.equal((await fetch(`${url}/api/jobs`, { method: 'PUT' })).status, 405)
  const { status: statusOfList } = await get(`${url}/late/jobs`)
  t.equal(statusOfList, 404, 'the prefix is that of the option')
  t.match(await post(`${url}/late/notes`, { text: 'x' }), { status: 500, body: { message: /before body parsers/ } })
})

t.test('without next, a server of node:http answers 404 for other paths', async (t) => {
  const url = await listen(t, createServer(handler.node))
  t.match(await get(`${url}/none`), { status: 404, body: { error: { code: 'not-found' } } })
  t.match(await post(`${url}/notes`, { text: 'x' }), { status: 202 })
})
