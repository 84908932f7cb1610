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

/** An API process with a quota of requests per principal. */
const quota = 5
const limitedApi = await start(t, 'api', {
  config,
  databaseUrl,
  env: { RATE_LIMIT: String(quota) },
})

const mebibyte = 1024 * 1024

/** Makes a body of exactly a number of bytes. */
const bodyOf = (bytes: number) => ({ text: 'x'.repeat(bytes - JSON.stringify({ text: '' }).length) })

t.test('A body of 1 MiB is accepted, and one more byte gets 413', async (t) => {
  t.equal((await ann.post('/idle', bodyOf(mebibyte))).status, 202)
  const bob = service.as('bob')
  t.equal((await bob.post('/idle', bodyOf(mebibyte + 1))).status, 413)
  t.same(await service.storedBy('bob'), nothing)
})

t.test('An operation can raise its body limit', async (t) => {
  t.equal((await ann.post('/big', bodyOf(mebibyte + 1))).status, 202)
  t.equal((await ann.post('/big', bodyOf(bigLimit))).status, 202)
  t.equal((await ann.post('/big', bodyOf(bigLimit + 1))).status, 413)
})

t.test('The body limit also applies without Content-Length', async (t) => {
  const response = await fetch(`${api.url}/idle`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: new Blob([JSON.stringify(bodyOf(mebibyte + 1))]).stream(),
    duplex: 'half',
  })
  t.equal(response.status, 413)
})

/** Sends bytes unchanged, and returns all that is received. */
async function sendRaw(t: Test, bytes: string): Promise<string> {
  const { hostname, port } = new URL(api.url)
  const socket = connect(Number(port), hostname)
  t.teardown(() => socket.destroy())
  socket.write(bytes)
  return text(socket)
}

/** Asserts that a raw response has a status, and problem details with a code. */
const assertProblem = (t: Test, answer: string, status: number, code: string) => {
  t.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `))
  t.match(answer, /^content-type: application\/problem\+json\b/im)
  t.match(JSON.parse(answer.slice(answer.indexOf('{'))), { type: `/docs/problems/${code}`, error: { code } })
}

const manyHeaders = (count: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, n) => [`x-header-${n}`, 'x']))

/** The responses to requests that never arrive completely. They run in parallel with the other tests. */
const incomplete = {
  'header section': sendRaw(t, 'POST /idle HTTP/1.1\r\nHost: x\r\n'),
  body: sendRaw(t, 'POST /idle HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{'),
}

t.test('100 header fields are accepted; one more gets 431, and nothing is stored', async (t) => {
  const path = new URL('/idle', api.url).href
  const sendMany = async (count: number) => {
    const fixed = { 'x-user': 'cid', 'content-type': 'application/json', host: 'x', connection: 'close' }
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

t.test('Headers of more than 16 KiB get 431', async (t) => {
  assertProblem(
    t,
    await sendRaw(t, `GET / HTTP/1.1\r\nHost: x\r\nX-Long: ${'x'.repeat(17_000)}\r\n\r\n`),
    431,
    'headers-too-large',
  )
})

t.test('A request that is not HTTP gets 400', async (t) => {
  assertProblem(t, await sendRaw(t, 'HELO there\r\n\r\n'), 400, 'bad-request')
})

/** Returns a client that has used up its quota, and the id of its last job. */
async function exhausted(user: string) {
  const client = service.as(user, limitedApi)
  for (let number = 1; number < quota; number++) await client.submit('/idle', { text: `${number}` })
  const { id } = await client.submit('/idle', { text: 'the last' })
  return { client, id: id as string }
}

t.test('A principal above its quota gets 429 with Retry-After, and nothing is stored', async (t) => {
  const { client } = await exhausted('cleo')
  const { status, headers } = await client.post('/idle', { text: 'x' }, { 'idempotency-key': 'k' })
  t.equal(status, 429)
  t.match(headers['retry-after'], /^[1-9]\d*$/)
  t.same(await service.storedBy('cleo'), { jobs: quota, keys: 0, notes: quota })
})

t.test('A 429 does not consume the Idempotency-Key', async (t) => {
  const { client } = await exhausted('dora')
  await client.post('/idle', { text: 'refused' }, { 'idempotency-key': 'k' })
  // Another process has its own quota.
  const answer = await service.as('dora').post('/idle', { text: 'another' }, { 'idempotency-key': 'k' })
  t.equal(answer.status, 202)
  t.equal(answer.headers['idempotent-replayed'], undefined)
})

t.test('A 429 has RateLimit and RateLimit-Policy', async (t) => {
  const { client } = await exhausted('eve')
  const { status, headers } = await client.post('/idle', { text: 'x' })
  t.equal(status, 429)
  t.match(headers.ratelimit, /^"[^"]+";(.*;)?\s*r=0\b/)
  t.match(headers['ratelimit-policy'], /^"[^"]+";(.*;)?\s*q=5\b/)
})

t.test('RateLimit and RateLimit-Policy name the same policy', async (t) => {
  const { client } = await exhausted('fred')
  const { headers } = await client.post('/idle', { text: 'x' })
  const [limit, policy] = [headers.ratelimit, headers['ratelimit-policy']] as [string, string]
  t.match(limit, /^"[^"]+"/)
  t.equal(limit.match(/^"[^"]+"/)?.[0], policy.match(/^"[^"]+"/)?.[0])
})

t.test('The rate limit of one principal does not affect others', async (t) => {
  const { client } = await exhausted('gina')
  t.equal((await client.post('/idle', { text: 'x' })).status, 429)
  t.equal((await service.as('hugo', limitedApi).post('/idle', { text: 'x' })).status, 202)
})

t.test('The rate limit is checked before validation', async (t) => {
  const { client } = await exhausted('ida')
  t.equal((await client.post('/idle', { text: 1 })).status, 429)
})

t.test('One read of /jobs/{id} per second and job is always allowed', async (t) => {
  const { client, id } = await exhausted('jim')
  for (let second = 0; second < 4; second++) {
    // Each read waits for a second, so the reads are a second apart.
    const { status, body } = await client.get(`/jobs/${id}`, { prefer: 'wait=1' })
    t.equal(status, 200)
    t.equal(body.id, id)
  }
})

t.test('One read of /jobs/{id}/result per second and job is always allowed', async (t) => {
  const { client, id } = await exhausted('kim')
  for (let second = 0; second < 4; second++) {
    const { status, body } = await client.get(`/jobs/${id}/result`, { prefer: 'wait=1' })
    t.equal(status, 202)
    t.equal(body.id, id)
  }
})

t.test('Reads of /jobs/{id} and of its /result are counted separately', async (t) => {
  const { client, id } = await exhausted('lea')
  t.equal((await client.get(`/jobs/${id}`)).status, 200)
  t.equal((await client.get(`/jobs/${id}/result`)).status, 202)
})

t.test('Reads of jobs that do not exist are limited', async (t) => {
  const { client, id } = await exhausted('moe')
  const guess = async () => (await client.get(`/jobs/${idAt(Date.now())}`)).status
  for (let number = 0; number < quota; number++) t.equal(await guess(), 404)
  t.equal(await guess(), 429)
  t.equal((await client.get(`/jobs/${id}`)).status, 429, 'and so are reads of existing jobs, until the window ends')
})

t.test('Reads of different jobs are counted separately', async (t) => {
  const max = service.as('max')
  const others = [await max.submit('/idle', { text: 'one' }), await max.submit('/idle', { text: 'two' })]
  const { client, id } = await exhausted('max')
  const statuses = await Promise.all(
    [id, ...others.map((other) => other.id)].map(async (one) => (await client.get(`/jobs/${one}`)).status),
  )
  t.same(statuses, [200, 200, 200])
})

/** Fills the backlog of the operation `limited`, and returns the first refusal. */
async function fillBacklog(user: string) {
  const client = service.as(user)
  const first = await client.post('/limited', { text: 'x' })
  const refused = await until(async () => {
    const answer = await client.post('/limited', { text: 'x' })
    return answer.status !== 202 && answer
  })
  return { client, first, refused }
}

t.test('A full backlog gets 503 with Retry-After', async (t) => {
  const { refused } = await fillBacklog('nina')
  t.equal(refused.status, 503)
  t.match(refused.headers['retry-after'], /^[1-9]\d*$/)
})

t.test('A request that a full backlog refuses stores nothing', async (t) => {
  await fillBacklog('otto')
  const pia = service.as('pia')
  const { status } = await pia.post('/limited', { text: 'x' }, { 'idempotency-key': 'k' })
  t.equal(status, 503)
  t.same(await service.storedBy('pia'), nothing)
})

t.test('The full backlog of one operation does not affect others', async (t) => {
  const { client } = await fillBacklog('quin')
  t.equal((await client.post('/idle', { text: 'x' })).status, 202)
})

t.test('The backlog is checked before validation', async (t) => {
  const { client } = await fillBacklog('rosa')
  t.equal((await client.post('/limited', { text: 1 })).status, 503)
})

t.test('A full backlog also refuses retries', async (t) => {
  const separate = (await serve(t, { worker: false })).as('ann')
  const { id } = await separate.submit('/limited', { text: 'x' })
  await separate.post(`/jobs/${id}/cancel`, undefined)
  await until(async () => (await separate.post('/limited', { text: 'x' })).status === 503)
  const { status, headers } = await separate.post(`/jobs/${id}/retry`, undefined)
  t.equal(status, 503)
  t.match(headers['retry-after'], /^[1-9]\d*$/)
})

for (const [what, answer] of Object.entries(incomplete)) {
  t.test(`A request whose ${what} does not arrive completely gets 408`, async (t) => {
    assertProblem(t, await answer, 408, 'request-timeout')
  })
}
