import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { start } from '../support/program.ts'
import { until } from '../support/until.ts'
import { bigLimit } from './app/operations.ts'
import { config, idAt, nothing, send, serve } from './support.ts'

t.jobs = 4

const service = await serve(t)
const { api, databaseUrl } = service
const ann = service.as('ann')

/** The number of requests that each principal may send to `limitedApi`. */
const quota = 5
const limitedApi = await start(t, 'api', {
  config,
  databaseUrl,
  env: { RATE_LIMIT: String(quota) },
})

const mebibyte = 1024 * 1024

/** Makes a body whose JSON text has exactly this many bytes. */
const bodyOf = (bytes: number) => ({ text: 'x'.repeat(bytes - JSON.stringify({ text: '' }).length) })

t.test('a body of 1 MiB is accepted, and a body that is one byte larger gets 413', async (t) => {
  t.equal((await ann.post('/idle', bodyOf(mebibyte))).status, 202)
  const bob = service.as('bob')
  t.equal((await bob.post('/idle', bodyOf(mebibyte + 1))).status, 413)
  t.same(await service.storedBy('bob'), nothing)
})

t.test('an operation can raise its body limit', async (t) => {
  t.equal((await ann.post('/big', bodyOf(mebibyte + 1))).status, 202)
  t.equal((await ann.post('/big', bodyOf(bigLimit))).status, 202)
  t.equal((await ann.post('/big', bodyOf(bigLimit + 1))).status, 413)
})

t.test('the body limit also applies to a request without Content-Length', async (t) => {
  const response = await fetch(`${api.url}/idle`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: new Blob([JSON.stringify(bodyOf(mebibyte + 1))]).stream(),
    duplex: 'half',
  })
  t.equal(response.status, 413)
})

/** Sends bytes unchanged, and returns everything that is received. */
async function sendRaw(t: Test, bytes: string, { url }: { url: string } = api): Promise<string> {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  t.teardown(() => socket.destroy())
  socket.write(bytes)
  return text(socket)
}

/** Asserts that a raw response has the given status, and problem details with the given code. */
const assertProblem = (t: Test, answer: string, status: number, code: string) => {
  t.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `))
  t.match(answer, /^content-type: application\/problem\+json\b/im)
  t.match(JSON.parse(answer.slice(answer.indexOf('{'))), { type: `/docs/problems/${code}`, error: { code } })
}

const manyHeaders = (count: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, n) => [`x-header-${n}`, 'x']))

/** The responses to requests that never arrive completely. The server times them out while the other tests run. */
const incomplete = {
  'header section': sendRaw(t, 'POST /idle HTTP/1.1\r\nHost: localhost\r\n'),
  body: sendRaw(
    t,
    'POST /idle HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{',
  ),
}

t.test('a request with 100 header fields is accepted; a request with 101 gets 431 and stores nothing', async (t) => {
  const path = new URL('/idle', api.url).href
  const sendMany = async (count: number) => {
    const fixed = { 'x-user': 'cid', 'content-type': 'application/json', host: 'localhost', connection: 'close' }
    const body = JSON.stringify({ text: 'x' })
    const headers = { ...fixed, 'content-length': body.length, ...manyHeaders(count - 5) }
    return send(path, { method: 'POST', headers, body })
  }
  t.equal((await sendMany(100)).status, 202)
  const refused = await sendMany(101)
  t.equal(refused.status, 431)
  t.match(refused.body, { error: { code: 'headers-too-large' } })
  t.same(await service.storedBy('cid'), { ...nothing, jobs: 1, notes: 1 })
})

t.test('a request with headers of more than 16 KiB gets 431', async (t) => {
  assertProblem(
    t,
    await sendRaw(t, `GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: ${'x'.repeat(17_000)}\r\n\r\n`),
    431,
    'headers-too-large',
  )
})

t.test('a request that is not HTTP gets 400', async (t) => {
  assertProblem(t, await sendRaw(t, 'HELO there\r\n\r\n'), 400, 'bad-request')
})

const postIdle = (headers: string) =>
  `POST /idle HTTP/1.1\r\n${headers}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 12\r\n` +
  'X-User: nils\r\n\r\n{"text":"x"}'

for (const [what, request, status, code] of [
  ['with two Host headers', postIdle('Host: x\r\nHost: y'), 400, 'bad-request'],
  ['with the same Host header twice', postIdle('Host: x\r\nhost: x'), 400, 'bad-request'],
  ['without a Host header', postIdle('X-Other: x'), 400, 'bad-request'],
  ['with an unknown Expect header', postIdle('Host: x\r\nExpect: a-miracle'), 417, 'expectation-failed'],
  ['with the method CONNECT', 'CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n', 405, 'method-not-allowed'],
] as const) {
  t.test(`a request ${what} gets ${status} with problem details, and stores nothing`, async (t) => {
    assertProblem(t, await sendRaw(t, request), status, code)
    t.same(await service.storedBy('nils'), nothing)
  })
}

t.test('two Host headers get 400 on every route, also if PUBLIC_URL makes the API independent of them', async (t) => {
  const env = { PUBLIC_URL: 'https://api.example.com' }
  const behindProxy = await start(t, 'api', { config, databaseUrl: service.databaseUrl, env })
  const hosts = 'Host: api.example.com\r\nHost: localhost'
  assertProblem(t, await sendRaw(t, postIdle(hosts), behindProxy), 400, 'bad-request')
  for (const path of ['/health/live', '/nothing', '/notes/1', '/openapi.json']) {
    const request = `GET ${path} HTTP/1.1\r\n${hosts}\r\nConnection: close\r\n\r\n`
    assertProblem(t, await sendRaw(t, request, behindProxy), 400, 'bad-request')
  }
  t.same(await service.storedBy('nils'), nothing)
})

const postChunked = (coding: string) =>
  `POST /idle HTTP/1.1\r\nHost: 127.0.0.1\r\nX-User: nils\r\nConnection: close\r\nContent-Type: application/json\r\n` +
  `Transfer-Encoding: ${coding}\r\n\r\nc\r\n{"text":"x"}\r\n0\r\n\r\n`

t.test('a body with another transfer coding than chunked gets 400, and nothing is stored', async (t) => {
  for (const coding of ['gzip, chunked', 'deflate,chunked', 'br, CHUNKED']) {
    assertProblem(t, await sendRaw(t, postChunked(coding)), 400, 'bad-request')
  }
  t.same(await service.storedBy('nils'), nothing)
  t.match(await sendRaw(t, postChunked('chunked').replace('nils', 'nele')), /^HTTP\/1\.1 202 /)
})

t.test('a request that expects more than 100-continue gets 417, and nothing is stored', async (t) => {
  for (const expect of ['100-continue, a-miracle', 'a-miracle;100-continue', '100-continue\r\nExpect: a-miracle']) {
    const answer = await sendRaw(t, postIdle(`Host: 127.0.0.1\r\nExpect: ${expect}`))
    // Node has sent this interim response already.
    assertProblem(t, answer.replace('HTTP/1.1 100 Continue\r\n\r\n', ''), 417, 'expectation-failed')
  }
  t.same(await service.storedBy('nils'), nothing)
})

t.test('OPTIONS * gets 204 with the methods of the API', async (t) => {
  const answer = await sendRaw(t, 'OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n')
  t.match(answer, /^HTTP\/1\.1 204 .*\r\nallow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n/s)
})

t.test('a request target in absolute form is that request to that host', async (t) => {
  const absolute = (host: string, key = '') =>
    postIdle(`Host: 127.0.0.1\r\nIdempotency-Key: absolute${key}`)
      .replace('/idle', `http://${host}/idle`)
      .replace('nils', 'noel')
  assertProblem(t, await sendRaw(t, absolute('evil.example.com')), 421, 'misdirected-request')
  assertProblem(t, await sendRaw(t, absolute('user:password@localhost')), 400, 'bad-request')
  t.same(await service.storedBy('noel'), nothing)
  const first = await sendRaw(t, absolute('localhost:1'))
  t.match(first, /^HTTP\/1\.1 202 .*\r\nlocation: http:\/\/localhost:1\/jobs\//s)
  const noel = service.as('noel')
  const replay = await noel.post('/idle', { text: 'x' }, { 'idempotency-key': 'absolute' })
  t.match(replay, { status: 202, headers: { 'idempotent-replayed': 'true' } }, 'the fingerprint is the same')
  const get = (target: string) =>
    sendRaw(t, `GET ${target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nX-User: noel\r\n\r\n`)
  t.match(await get('HTTP://localhost/jobs?limit=1'), /^HTTP\/1\.1 200 /)
  t.match(await get('http://localhost/jobs/x?access_token=leaked'), '"instance":"/jobs/x"')
})

t.test('a complete request is answered for its job, although what follows is no request', async (t) => {
  const post = postIdle('Host: 127.0.0.1').replace('Connection: close\r\n', '')
  for (const [user, request] of [
    ['nick', post],
    ['nina', post.replace('X-User', 'Prefer: wait=1\r\nX-User')],
  ] as const) {
    const answer = await sendRaw(t, `${request.replace('nils', user)}GARBAGE\r\n\r\n`)
    const [first = '', second = ''] = answer.split(/(?=HTTP\/1\.1 400 )/)
    t.match(first, /^HTTP\/1\.1 202 /)
    assertProblem(t, second, 400, 'bad-request')
    t.same(await service.storedBy(user), { ...nothing, jobs: 1, notes: 1 })
  }
})

t.test('a request with Expect: 100-continue is answered', async (t) => {
  const answer = await sendRaw(t, postIdle('Host: 127.0.0.1\r\nExpect: 100-continue').replace('nils', 'nora'))
  t.match(answer, /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 202 /)
})

for (const coding of ['gzip', 'br', 'zstd', 'deflate', 'gzip, br', 'identity, gzip', 'x', 'GZIP']) {
  t.test(`a body with Content-Encoding: ${coding} gets 415, even if its bytes are JSON`, async (t) => {
    const oda = service.as('oda')
    const { status, body } = await oda.post('/idle', { text: 'x' }, { 'content-encoding': coding } as never)
    t.equal(status, 415)
    t.equal(body.error.code, 'unsupported-media-type')
    t.match(body.detail, /Content-Encoding/)
    t.same(await service.storedBy('oda'), nothing)
  })
}

t.test('Content-Encoding in two lines gets 415, and identity is no encoding', async (t) => {
  const olga = service.as('olga')
  const post = (coding: string | string[]) => olga.post('/idle', { text: 'x' }, { 'content-encoding': coding } as never)
  t.equal((await post(['identity', 'gzip'])).status, 415)
  t.equal((await post('identity')).status, 202)
})

t.test('of many pipelined requests, 8 are in progress, and another connection is answered', async (t) => {
  const paul = service.as('paul')
  const ids: string[] = []
  for (let number = 0; number < 30; number++) ids.push((await paul.submit('/idle', { text: 'x' })).id)
  const { hostname, port } = new URL(api.url)
  const socket = connect(Number(port), hostname)
  t.teardown(() => socket.destroy())
  const wait = (id: string) =>
    `GET /jobs/${id} HTTP/1.1\r\nHost: ${hostname}\r\nX-User: paul\r\nPrefer: wait=55\r\n\r\n`
  // Each request in progress watches its job.
  const watched = async () =>
    Number((await service.as('ops').get('/metrics')).text.match(/^accepted_watched_jobs (\d+)$/m)?.[1])
  // Requests of other tests may still end.
  await until(async () => (await watched()) === 0)
  socket.write(ids.map(wait).join(''))
  await until(async () => (await watched()) >= 8)
  t.equal((await service.as('pola').post('/idle', { text: 'x' })).status, 202)
  t.equal(await watched(), 8)
  for (const id of ids) await paul.post(`/jobs/${id}/cancel`, undefined)
  let received = ''
  socket.on('data', (data) => {
    received += data.toString()
  })
  await until(() => received.match(/HTTP\/1\.1 200/g)?.length === ids.length)
  t.same(
    received.match(/"id":"[^"]+"/g),
    ids.map((id) => `"id":"${id}"`),
    'the answers come in the order of the requests',
  )
})

/** Returns a client that has used up its quota, and the id of its last job. */
async function exhausted(user: string) {
  const client = service.as(user, limitedApi)
  for (let number = 1; number < quota; number++) await client.submit('/idle', { text: `${number}` })
  const { id } = await client.submit('/idle', { text: 'the last' })
  return { client, id: id as string }
}

t.test('a principal above its quota gets 429 with Retry-After, and nothing is stored', async (t) => {
  const { client } = await exhausted('cleo')
  const { status, headers } = await client.post('/idle', { text: 'x' }, { 'idempotency-key': 'k' })
  t.equal(status, 429)
  t.match(headers['retry-after'], /^[1-9]\d*$/)
  t.same(await service.storedBy('cleo'), { jobs: quota, keys: 0, notes: quota })
})

t.test('a request that gets 429 does not take its Idempotency-Key', async (t) => {
  const { client } = await exhausted('dora')
  await client.post('/idle', { text: 'refused' }, { 'idempotency-key': 'k' })
  // The other API process has a separate quota.
  const answer = await service.as('dora').post('/idle', { text: 'another' }, { 'idempotency-key': 'k' })
  t.equal(answer.status, 202)
  t.equal(answer.headers['idempotent-replayed'], undefined)
})

t.test('a 429 has the headers RateLimit and RateLimit-Policy', async (t) => {
  const { client } = await exhausted('eve')
  const { status, headers } = await client.post('/idle', { text: 'x' })
  t.equal(status, 429)
  t.match(headers.ratelimit, /^"[^"]+";(.*;)?\s*r=0\b/)
  t.match(headers['ratelimit-policy'], /^"[^"]+";(.*;)?\s*q=5\b/)
})

t.test('the headers RateLimit and RateLimit-Policy name the same policy', async (t) => {
  const { client } = await exhausted('fred')
  const { headers } = await client.post('/idle', { text: 'x' })
  const [limit, policy] = [headers.ratelimit, headers['ratelimit-policy']] as [string, string]
  t.match(limit, /^"[^"]+"/)
  t.equal(limit.match(/^"[^"]+"/)?.[0], policy.match(/^"[^"]+"/)?.[0])
})

t.test('the rate limit of one principal does not affect other principals', async (t) => {
  const { client } = await exhausted('gina')
  t.equal((await client.post('/idle', { text: 'x' })).status, 429)
  t.equal((await service.as('hugo', limitedApi).post('/idle', { text: 'x' })).status, 202)
})

t.test('the rate limit is checked before the body is validated', async (t) => {
  const { client } = await exhausted('ida')
  t.equal((await client.post('/idle', { text: 1 })).status, 429)
})

t.test('even above its quota, a principal can read /jobs/{id} of each job once per second', async (t) => {
  const { client, id } = await exhausted('jim')
  for (let second = 0; second < 4; second++) {
    // Each read waits for one second, so the reads are one second apart.
    const { status, body } = await client.get(`/jobs/${id}`, { prefer: 'wait=1' })
    t.equal(status, 200)
    t.equal(body.id, id)
  }
})

t.test('even above its quota, a principal can read /jobs/{id}/result of each job once per second', async (t) => {
  const { client, id } = await exhausted('kim')
  for (let second = 0; second < 4; second++) {
    const { status, body } = await client.get(`/jobs/${id}/result`, { prefer: 'wait=1' })
    t.equal(status, 202)
    t.equal(body.id, id)
  }
})

t.test('reads of /jobs/{id} and of its /result are counted separately', async (t) => {
  const { client, id } = await exhausted('lea')
  t.equal((await client.get(`/jobs/${id}`)).status, 200)
  t.equal((await client.get(`/jobs/${id}/result`)).status, 202)
})

t.test('a principal that reads many unknown jobs gets 429', async (t) => {
  const { client, id } = await exhausted('moe')
  const guess = async () => (await client.get(`/jobs/${idAt(Date.now())}`)).status
  for (let number = 0; number < quota; number++) t.equal(await guess(), 404)
  t.equal(await guess(), 429)
  t.equal((await client.get(`/jobs/${id}`)).status, 429, 'reads of existing jobs are then limited as well')
})

t.test('a principal above its quota can still read several different jobs within one second', async (t) => {
  const max = service.as('max')
  const others = [await max.submit('/idle', { text: 'one' }), await max.submit('/idle', { text: 'two' })]
  const { client, id } = await exhausted('max')
  const statuses = await Promise.all(
    [id, ...others.map((other) => other.id)].map(async (one) => (await client.get(`/jobs/${one}`)).status),
  )
  t.same(statuses, [200, 200, 200])
})

/** Fills the backlog of the operation `limited`, until a request is refused. */
async function fillBacklog(user: string) {
  const client = service.as(user)
  const first = await client.post('/limited', { text: 'x' })
  const refused = await until(async () => {
    const answer = await client.post('/limited', { text: 'x' })
    return answer.status !== 202 && answer
  })
  return { client, first, refused }
}

t.test('a request gets 503 with Retry-After while the backlog is full', async (t) => {
  const { refused } = await fillBacklog('nina')
  t.equal(refused.status, 503)
  t.match(refused.headers['retry-after'], /^[1-9]\d*$/)
})

t.test('a request that is refused because of a full backlog stores nothing', async (t) => {
  await fillBacklog('otto')
  const pia = service.as('pia')
  const { status } = await pia.post('/limited', { text: 'x' }, { 'idempotency-key': 'k' })
  t.equal(status, 503)
  t.same(await service.storedBy('pia'), nothing)
})

t.test('the full backlog of one operation does not affect other operations', async (t) => {
  const { client } = await fillBacklog('quin')
  t.equal((await client.post('/idle', { text: 'x' })).status, 202)
})

t.test('the backlog is checked before the body is validated', async (t) => {
  const { client } = await fillBacklog('rosa')
  t.equal((await client.post('/limited', { text: 1 })).status, 503)
})

t.test('a retry also gets 503 with Retry-After while the backlog is full', async (t) => {
  const separate = (await serve(t, { worker: false })).as('ann')
  const { id } = await separate.submit('/limited', { text: 'x' })
  await separate.post(`/jobs/${id}/cancel`, undefined)
  await until(async () => (await separate.post('/limited', { text: 'x' })).status === 503)
  const { status, headers } = await separate.post(`/jobs/${id}/retry`, undefined)
  t.equal(status, 503)
  t.match(headers['retry-after'], /^[1-9]\d*$/)
})

for (const [what, answer] of Object.entries(incomplete)) {
  t.test(`a request whose ${what} does not arrive completely gets 408`, async (t) => {
    assertProblem(t, await answer, 408, 'request-timeout')
  })
}
