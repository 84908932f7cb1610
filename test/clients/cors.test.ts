import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { defineOperation } from 'accepted'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { serve } from '../support/api.ts'
import { get, post } from '../support/client.ts'
import { startBrowser } from './browser.ts'

const note = defineOperation({
  name: 'note.create',
  route: { method: 'POST', url: '/notes' },
  input: Type.Object({ text: Type.String() }),
})

/** Serves an empty page. Returns its origin. */
async function startPage(t: Test): Promise<string> {
  const server = createServer((_request, response) => response.setHeader('content-type', 'text/html').end('<p>page'))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => void server.close().closeAllConnections())
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const origin = await startPage(t)
const otherOrigin = await startPage(t)
const open = await startBrowser(t)

/** A script that submits, reads and follows a job as a page of another origin does. */
const script = (url: string) => `(async () => {
  const names = ['location', 'operation-location', 'retry-after', 'etag', 'ratelimit', 'ratelimit-policy']
  const readable = ({ headers }) => names.filter((name) => headers.get(name) !== null)
  const json = { 'content-type': 'application/json', authorization: 'Bearer x', 'idempotency-key': crypto.randomUUID() }
  try {
    const submitted = await fetch('${url}/notes', { method: 'POST', headers: json, body: '{"text":"a"}' })
    const job = await submitted.json()
    const monitor = await fetch(job.links.self, { headers: { prefer: 'wait=1', 'if-none-match': '"0"' } })
    const invalid = await fetch('${url}/notes', { method: 'POST', headers: json, body: '{' })
    const opened = (stream) => new Promise((resolve) => {
      stream.onopen = () => resolve(true)
      stream.onerror = () => resolve(false)
    })
    const events = await opened(new EventSource(job.links.events))
    const socket = await opened(new WebSocket('${url.replace('http', 'ws')}/events'))
    const canceled = await fetch(job.links.self, { method: 'DELETE', headers: { authorization: 'Bearer x' } })
    return { submitted: readable(submitted), monitor: readable(monitor), invalid: invalid.status, events, socket,
      canceled: canceled.status }
  } catch (error) {
    return error.name
  }
})()`

async function run(t: Test, page: string, url: string): Promise<unknown> {
  const opened = await open(t)
  await opened.page.goto(page)
  return opened.page.evaluate(script(url))
}

const limits = ['ratelimit', 'ratelimit-policy']
const everything = {
  submitted: ['location', 'operation-location', 'retry-after', ...limits],
  monitor: ['retry-after', 'etag', ...limits],
  invalid: 400,
  events: true,
  socket: true,
  canceled: 200,
}
const authenticate = () => 'ann'

t.test('a page of another origin reads nothing, unless its origin is listed', async (t) => {
  const closed = await serve(t, { operations: { note }, authenticate })
  t.equal(await run(t, origin, closed.url), 'TypeError')
  const api = await serve(t, { operations: { note }, authenticate, corsOrigins: [origin] })
  t.same(await run(t, origin, api.url), everything)
  t.equal(await run(t, otherOrigin, api.url), 'TypeError')
  const any = await serve(t, { operations: { note }, authenticate, corsOrigins: ['*'] })
  t.same(await run(t, otherOrigin, any.url), { ...everything, socket: false }, 'a WebSocket would send cookies')
})

t.test('an origin is never told to send credentials, and caches keep the answers for origins apart', async (t) => {
  const { url } = await serve(t, { operations: { note }, authenticate, corsOrigins: [origin] }, (app) => {
    app.get('/own', async () => 'own')
  })
  const { links } = (await post(`${url}/notes`, { text: 'a' })).body
  const monitor = await get(links.self, { origin })
  t.equal(monitor.headers.get('access-control-allow-origin'), origin)
  t.equal(monitor.headers.get('access-control-allow-credentials'), null)
  t.equal(monitor.headers.get('vary'), 'Accept, Prefer, Authorization, Origin')
  t.equal((await get(links.self, { origin: otherOrigin })).headers.get('access-control-allow-origin'), null)
  const preflight = await fetch(links.self, {
    method: 'OPTIONS',
    headers: { origin, 'access-control-request-method': 'DELETE', 'access-control-request-headers': 'x-user' },
  })
  t.equal(preflight.status, 204)
  t.match(Object.fromEntries(preflight.headers), {
    'access-control-allow-origin': origin,
    'access-control-allow-methods': 'GET, HEAD, DELETE',
    'access-control-allow-headers': 'x-user',
    vary: 'Origin, Access-Control-Request-Headers',
  })
  const own = await get(`${url}/own`, { origin })
  t.equal(own.headers.get('access-control-allow-origin'), null, 'the routes of the host app stay as they are')
})

t.test('an entry that is no origin is refused at the start', async (t) => {
  for (const wrong of ['app.example.com', 'https://app.example.com/', 'https://*.example.com', 'null']) {
    await t.rejects(serve(t, { operations: { note }, corsOrigins: [wrong] }), {
      message: /corsOrigins must be origins/,
    })
  }
})
