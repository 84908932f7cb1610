import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { nothing, serve } from './support.ts'

t.jobs = 4

const service = await serve(t, { worker: false })
const { hostname, port } = new URL(service.api.url)

/** Opens a connection, and sends the lines of a request head and a body unchanged. */
function open(head: string[], body = '', to = { hostname, port }): Socket {
  const socket = connect(Number(to.port), to.hostname)
  socket.write([...head, '', body].join('\r\n'))
  return socket
}

/** Sends a request, and returns everything that is received until the connection ends. */
const exchange = (...request: Parameters<typeof open>): Promise<string> => text(open(...request))

const asHost = (host: string) => [`Host: ${host}`, 'X-User: ann', 'Connection: close']

const invalidHosts = [
  '',
  'a b',
  '[',
  '[::1',
  '"><script>',
  'x:99999',
  'x:y',
  'evil.com/x?',
  'evil.com#',
  'user@evil',
  'é',
]

for (const host of invalidHosts) {
  t.test(`on every route, a request with Host: ${JSON.stringify(host)} gets 400`, async (t) => {
    for (const path of ['/jobs', '/events', '/asyncapi.json', '/openapi.json', '/notes/1']) {
      const answer = await exchange([`GET ${path} HTTP/1.1`, ...asHost(host)])
      t.match(answer, /^HTTP\/1.1 400 /, path)
    }
  })
}

t.test('a request with an invalid Host gets problem details, and nothing is stored', async (t) => {
  const body = '{"text":"x"}'
  const answer = await exchange(
    [
      'POST /notes HTTP/1.1',
      ...['Host: evil.com/x?', 'X-User: hostile', 'Connection: close'],
      ...['Content-Type: application/json', `Content-Length: ${body.length}`],
    ],
    body,
  )
  t.match(answer, /^HTTP\/1.1 400 /)
  t.match(answer, /content-type: application\/problem\+json/)
  t.match(JSON.parse(answer.slice(answer.indexOf('{'))), { error: { code: 'bad-request', message: /\bHost\b/ } })
  t.notMatch(answer, 'evil')
  t.same(await service.storedBy('hostile'), nothing)
})

t.test('the Host header is checked before authentication', async (t) => {
  t.match(await exchange(['GET /jobs HTTP/1.1', 'Host: [', 'X-User: nobody', 'Connection: close']), /^HTTP\/1.1 400 /)
})

t.test('an HTTP/1.0 request without Host gets 400, except on the health routes', async (t) => {
  t.match(await exchange(['GET /jobs HTTP/1.0']), / 400 /)
  t.match(await exchange(['GET /health/live HTTP/1.0']), / 200 /)
})

t.test('a request with two Host headers gets 400', async (t) => {
  t.match(await exchange(['GET /jobs HTTP/1.1', 'Host: a', ...asHost('b')]), /^HTTP\/1.1 400 /)
})

t.test('a WebSocket request with an invalid Host gets 400, and the process stays live', async (t) => {
  for (const host of invalidHosts) {
    const socket = open([
      'GET /events HTTP/1.1',
      ...[`Host: ${host}`, 'X-User: ann', 'Connection: Upgrade', 'Upgrade: websocket'],
      ...['Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=='],
      'Sec-WebSocket-Protocol: cloudevents.json',
    ])
    const [answer] = await once(socket, 'data')
    socket.destroy()
    t.match(String(answer), /^HTTP\/1.1 400 /, host)
  }
  t.equal((await service.as('ann').get('/health/live')).status, 200)
})

for (const host of ['api.example.com', 'a_b.internal:8080', '127.0.0.1:1', '[::1]:3000', 'LOCALHOST']) {
  t.test(`links contain the Host of the request: ${host}`, async (t) => {
    const body = '{"text":"x"}'
    const answer = await exchange(
      ['POST /notes HTTP/1.1', ...asHost(host), 'Content-Type: application/json', `Content-Length: ${body.length}`],
      body,
    )
    t.match(answer, /^HTTP\/1.1 202 /)
    t.match(answer, `location: http://${host}/jobs/`)
  })
}

t.test('if a public URL is configured, any Host is accepted, and links start with the public URL', async (t) => {
  const { api } = await serve(t, { worker: false, env: { PUBLIC_URL: 'https://api.example.com' } })
  const body = '{"text":"x"}'
  const answer = await exchange(
    ['POST /notes HTTP/1.1', ...asHost('a b'), 'Content-Type: application/json', `Content-Length: ${body.length}`],
    body,
    new URL(api.url),
  )
  t.match(answer, /^HTTP\/1.1 202 /)
  t.match(answer, 'location: https://api.example.com/jobs/')
})
