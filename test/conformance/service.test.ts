import { once } from 'node:events'
import { connect } from 'node:net'
import { text as readAll } from 'node:stream/consumers'
import t from 'tap'
import { start } from '../support/program.ts'
import { startProxy } from '../support/proxy.ts'
import { until } from '../support/until.ts'
import { config, membersNamed, serve } from './support.ts'

t.jobs = 3

const service = await serve(t)
const { api, databaseUrl } = service
const ann = service.as('ann')

for (const path of ['/health/live', '/health/ready']) {
  t.test(`GET ${path} answers 200, even without a principal`, async (t) => {
    t.equal((await ann.get(path)).status, 200)
    t.equal((await service.as('nobody').get(path)).status, 200)
  })
}

t.test('while Postgres is unavailable, the process is live but not ready', async (t) => {
  const proxy = await startProxy(t, databaseUrl)
  const cutApi = await start(t, 'api', { config, databaseUrl: proxy.url })
  const client = service.as('ann', cutApi)
  await proxy.close()
  const { status } = await client.get('/health/ready')
  t.equal(status, 503)
  t.equal((await client.get('/health/live')).status, 200)
  await proxy.open()
  t.ok(await until(async () => (await client.get('/health/ready')).status === 200))
})

t.test('while Postgres is unavailable, requests get 503 with Retry-After and without internal details', async (t) => {
  const proxy = await startProxy(t, databaseUrl)
  const cutApi = await start(t, 'api', { config, databaseUrl: proxy.url })
  const client = service.as('ann', cutApi)
  const { id } = await client.submit('/idle', { text: 'x' })
  await proxy.close()
  for (const { status, headers, text } of [
    await client.post('/idle', { text: 'x' }),
    await client.get(`/jobs/${id}`),
    await client.get('/jobs'),
  ]) {
    t.equal(status, 503)
    t.match(headers['retry-after'], /^[1-9]\d*$/)
    t.match(headers['content-type'], /^application\/problem\+json\b/)
    t.notMatch(text, /ECONNREFUSED|ECONNRESET|127\.0\.0\.1:/)
  }
})

t.test('the process is not ready while the schema is outdated', async (t) => {
  const separate = await serve(t, { worker: false })
  const client = separate.as('ann')
  const { rows } = await separate.pool.query(
    'delete from accepted.migration where name = (select max(name) from accepted.migration) returning *',
  )
  t.equal(rows.length, 1)
  t.ok(await until(async () => (await client.get('/health/ready')).status === 503))
  t.equal((await client.get('/health/live')).status, 200)
})

for (const upgrade of ['h2c', 'TLS/1.0', 'websocket, h2c', 'x']) {
  t.test(`a client that offers to upgrade to ${upgrade} is served over HTTP/1.1`, async (t) => {
    const socket = connect(Number(new URL(api.url).port), '127.0.0.1')
    t.teardown(() => socket.destroy())
    const body = JSON.stringify({ text: 'x' })
    const head = [
      ...['POST /idle HTTP/1.1', 'Host: localhost', 'Connection: Upgrade, HTTP2-Settings', `Upgrade: ${upgrade}`],
      ...['HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA', 'Content-Type: application/json'],
    ]
    let received = ''
    socket.setEncoding('utf8').on('data', (chunk) => {
      received += chunk
    })
    socket.write(`${head.join('\r\n')}\r\nContent-Length: ${body.length}\r\n\r\n${body}`)
    await until(() => received.endsWith('}'))
    t.match(received, /^HTTP\/1\.1 202 /)
    // The connection can still be used.
    received = ''
    socket.write('GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n')
    await until(() => received.endsWith('}'))
    t.match(received, /^HTTP\/1\.1 200 /)
  })
}

t.test('GET /metrics answers in the Prometheus text format', async (t) => {
  await ann.ended((await ann.submit('/notes', { text: 'x' })).id)
  const { status, headers, text } = await service.as('ops').get('/metrics')
  t.equal(status, 200)
  t.match(headers['content-type'], /^text\/plain\b.*version=0\.0\.4|^application\/openmetrics-text\b/)
  const lines = text.split('\n').filter(Boolean)
  t.ok(lines.some((line) => line.startsWith('# TYPE ')))
  // Prometheus reads a value with Go's ParseFloat, which accepts NaN in any letter case.
  const value = /(-?[0-9.e+-]+|[+-]Inf|[Nn]a[Nn])/.source
  const labels = /(\{([a-zA-Z_][a-zA-Z0-9_]*="([^"\\]|\\.)*",?)*\})?/.source
  const sample = new RegExp(`^[a-zA-Z_:][a-zA-Z0-9_:]*${labels} ${value}( -?\\d+)?$`)
  for (const line of lines) if (!line.startsWith('#') && !sample.test(line)) t.fail(line)
  t.ok(lines.some((line) => sample.test(line)))
})

t.test('GET /metrics counts accepted requests', async (t) => {
  const readSamples = async () =>
    (await service.as('ops').get('/metrics')).text
      .split('\n')
      .filter((line) => line.includes('"quiet"') && !line.startsWith('#'))
  const before = await readSamples()
  await ann.submit('/quiet', {})
  t.notSame(await readSamples(), before)
})

// biome-ignore lint/suspicious/noExplicitAny: the tests check the document
const openapi = async (): Promise<any> => (await ann.get('/openapi.json')).body

t.test('GET /openapi.json answers with an OpenAPI 3.1 document', async (t) => {
  const { status, headers, body } = await ann.get('/openapi.json')
  t.equal(status, 200)
  t.match(headers['content-type'], /json/)
  t.match(body.openapi, /^3\.1\.\d+$/)
})

t.test('the OpenAPI document describes the operations and the routes of jobs', async (t) => {
  const { paths } = await openapi()
  for (const [path, method] of [
    ...[
      ['/notes', 'post'],
      ['/notes/{id}', 'put'],
      ['/sums', 'post'],
      ['/jobs', 'get'],
      ['/jobs/{id}', 'get'],
    ],
    ...[
      ['/jobs/{id}', 'delete'],
      ['/jobs/{id}/result', 'get'],
      ['/jobs/{id}/events', 'get'],
      ['/events', 'get'],
    ],
    ...[
      ['/jobs/{id}/cancel', 'post'],
      ['/jobs/{id}/retry', 'post'],
    ],
  ] as [string, string][]) {
    t.ok(paths[path]?.[method], `${method} ${path}`)
  }
})

t.test('the OpenAPI document contains callbacks', async (t) => {
  const callbacks = membersNamed('callbacks', (await openapi()).paths)
  t.ok(callbacks.some((callback) => Object.keys(callback as object).length > 0))
})

t.test('the OpenAPI document contains links', async (t) => {
  const { paths } = await openapi()
  const links = membersNamed('links', paths['/notes'].post.responses['202'])
  t.ok(links.some((link) => Object.keys(link as object).length > 0))
})

t.test('the OpenAPI document contains webhooks', async (t) => {
  t.ok(Object.keys((await openapi()).webhooks ?? {}).length > 0)
})

t.test('GET /docs answers with an HTML page', async (t) => {
  const response = await fetch(`${api.url}/docs`, { headers: { accept: 'text/html' } })
  t.equal(response.status, 200)
  t.match(response.headers.get('content-type'), /^text\/html\b/)
  t.match(await response.text(), /<html/i)
})

t.test('the documents have an ETag, and are sent again only after a change', async (t) => {
  for (const path of ['/openapi.json', '/asyncapi.json', '/docs/json', '/docs/yaml']) {
    const first = await ann.get(path)
    t.equal(first.status, 200)
    const etag = `${first.headers.etag}`
    t.match(etag, /^"[^"]+"$/, path)
    t.equal(first.headers['cache-control'], 'no-cache')
    const second = await ann.get(path, { 'if-none-match': etag })
    t.same([second.status, second.text, second.headers.etag], [304, '', etag])
    t.same((await ann.get(path, { 'if-none-match': '"other"' })).text, first.text)
  }
  t.match((await ann.get('/docs/yaml')).headers['content-type'], /^application\/(x-)?yaml\b/)
  t.same((await ann.get('/docs/json')).body, await openapi())
})

const statusLine = /HTTP\/1\.1 \d\d\d/g

t.test('no route but /events answers a request for a WebSocket', async (t) => {
  const { id } = await ann.submit('/idle', { text: 'x' })
  const paths = [
    ...['/health/live', '/metrics', '/docs', '/docs/json', '/openapi.json', '/docs/problems/not-found', '/notes/1'],
    ...['/jobs', `/jobs/${id}`, `/jobs/${id}/result`, '/docs/job.css', '/webhooks', '/none', '/events/'],
  ]
  for (const path of paths) {
    const { hostname, port } = new URL(api.url)
    const socket = connect(Number(port), hostname)
    const head = (connection: string) => [
      `GET ${path} HTTP/1.1`,
      ...['Host: localhost', `Connection: ${connection}`, 'Upgrade: websocket', 'Sec-WebSocket-Version: 13'],
      ...['Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==', 'Sec-WebSocket-Protocol: cloudevents.json'],
    ]
    const received = (count: number) => until(() => answers.match(statusLine)?.length === count)
    const closed = once(socket, 'close')
    let answers = ''
    socket.setEncoding('latin1').on('data', (chunk) => {
      answers += chunk
    })
    // The connection stays usable.
    socket.write([...head('Upgrade'), '', ''].join('\r\n'))
    await received(1)
    socket.write([...head('Upgrade, close'), '', ''].join('\r\n'))
    await received(2)
    await closed
    t.notOk(answers.match(statusLine)?.includes('HTTP/1.1 101'), path)
  }
})

t.test('the log contains no query of a request or of a URL in an error', async (t) => {
  const secret = 'c2VjcmV0LXRva2Vu'
  const logging = await start(t, 'api', { config, databaseUrl, env: { LOG_LEVEL: 'trace' } })
  const client = service.as('ann', logging)
  const { id } = await client.submit('/idle', { text: 'x' })
  const query = `access_token=${secret}&code=${secret}&x=${secret}`
  for (const path of ['/jobs', `/jobs/${id}`, '/health/live', '/none', '/%zz', '/events', '/docs', `/broken`]) {
    await client.get(`${path}?${query}`, { accept: 'application/json' })
  }
  await client.request(`/jobs?${query}`, { method: 'PUT' })
  const { hostname, port } = new URL(logging.url)
  for (const line of [
    `GET /events?${query} HTTP/1.1`,
    `GET http://localhost/jobs?${query} HTTP/1.1`,
    `GET /?${query} HTTP`,
  ]) {
    const socket = connect(Number(port), hostname)
    const upgrade = ['Upgrade: websocket', 'Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==']
    socket.end([line, 'Host: localhost', 'X-User: nobody', 'Connection: Upgrade', ...upgrade, '', ''].join('\r\n'))
    await readAll(socket)
  }
  await logging.end()
  t.match(logging.output(), '/jobs')
  t.match(logging.output(), 'The upstream refused')
  t.notMatch(logging.output(), secret)
})
