import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { run } from '../support/command.ts'
import { config, nothing, serve } from './support.ts'

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
  'localhost/x?',
  'localhost#',
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
  t.match(await exchange(['GET /jobs HTTP/1.1', 'Host: localhost', ...asHost('localhost')]), /^HTTP\/1.1 400 /)
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

for (const host of ['127.0.0.1:1', '127.8.9.10', '[::1]:3000', 'LOCALHOST', 'localhost:80', 'localhost.']) {
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

const foreignHosts = [
  ...['evil.example.com', 'evil.example.com:3000', 'localhost.evil.example.com', '127.0.0.1.evil.example.com'],
  ...['evil-localhost', '0.0.0.0', '10.0.0.1', '192.168.1.1', '[::]', '[fe80::1]', '[2001:db8::1]', 'api'],
]

t.test('an API on a loopback address refuses other hosts with 421, except on the health routes', async (t) => {
  for (const host of foreignHosts) {
    for (const path of ['/jobs', '/events', '/openapi.json', '/docs', '/metrics', '/notes/1', '/none']) {
      const answer = await exchange([`GET ${path} HTTP/1.1`, ...asHost(host)])
      t.match(answer, /^HTTP\/1.1 421 /, `${host} ${path}`)
      t.match(answer, 'content-type: application/problem+json')
      t.match(JSON.parse(answer.slice(answer.indexOf('{'))), { error: { code: 'misdirected-request' } })
    }
    t.match(await exchange(['GET /health/live HTTP/1.1', ...asHost(host)]), /^HTTP\/1.1 200 /)
    t.match(await exchange(['GET /health/ready HTTP/1.1', ...asHost(host)]), /^HTTP\/1.1 200 /)
  }
})

t.test('a request for another host stores nothing, and no WebSocket opens', async (t) => {
  const body = '{"text":"x"}'
  const answer = await exchange(
    [
      'POST /notes HTTP/1.1',
      ...['Host: evil.example.com', 'Origin: http://evil.example.com', 'X-User: rebound', 'Connection: close'],
      ...['Content-Type: application/json', `Content-Length: ${body.length}`],
    ],
    body,
  )
  t.match(answer, /^HTTP\/1.1 421 /)
  t.same(await service.storedBy('rebound'), nothing)
  const upgrade = await exchange([
    'GET /events HTTP/1.1',
    ...['Host: evil.example.com', 'Origin: http://evil.example.com', 'X-User: ann'],
    ...['Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13'],
    ...['Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==', 'Sec-WebSocket-Protocol: cloudevents.json'],
  ])
  t.match(upgrade, /^HTTP\/1.1 421 /)
})

t.test('HOSTS and PUBLIC_URL add hosts; links start with the public URL and its path', async (t) => {
  const env = { PUBLIC_URL: 'https://api.example.com/v1', HOSTS: 'a_b.internal, 10.0.0.1,[fd00::1]' }
  const { api } = await serve(t, { worker: false, env })
  const body = '{"text":"x"}'
  const submit = (host: string) => {
    const json = ['Content-Type: application/json', `Content-Length: ${body.length}`]
    return exchange(['POST /notes HTTP/1.1', ...asHost(host), ...json], body, new URL(api.url))
  }
  for (const host of [
    'api.example.com',
    'API.example.com:8443',
    'a_b.internal',
    '10.0.0.1:1',
    '[fd00::1]',
    'localhost',
  ]) {
    const answer = await submit(host)
    t.match(answer, /^HTTP\/1.1 202 /, host)
    t.match(answer, 'location: https://api.example.com/v1/jobs/')
  }
  for (const host of ['example.com', 'x.api.example.com', '10.0.0.2']) t.match(await submit(host), /^HTTP\/1.1 421 /)
  t.match(await submit('a b'), /^HTTP\/1.1 400 /)
})

t.test('with HOSTS=*, an API on every address serves any host, and links contain it', async (t) => {
  const { api } = await serve(t, { worker: false, env: { HOST: '0.0.0.0', HOSTS: '*' } })
  for (const host of ['anything.example.com:8080', '[2001:db8::1]']) {
    const answer = await exchange(['GET /asyncapi.json HTTP/1.1', ...asHost(host)], '', new URL(api.url))
    t.match(answer, /^HTTP\/1.1 200 /)
    t.match(answer, `"host":"${host}"`)
  }
})

for (const [command, HOST] of [
  ['api', '0.0.0.0'],
  ['api', '::'],
  ['dev', '0.0.0.0'],
] as const) {
  t.test(`accepted ${command} with HOST=${HOST} needs PUBLIC_URL or HOSTS, and says so`, async (t) => {
    const env = { DATABASE_URL: service.databaseUrl, HOST, HOSTS: '', PUBLIC_URL: '' }
    const { code, err } = await run([command, '--config', config], env)
    t.equal(code, 1)
    t.match(err, new RegExp(`^error: With HOST=${HOST}, .*PUBLIC_URL.*HOSTS`))
    t.equal(err.trim().split('\n').length, 1)
  })
}
