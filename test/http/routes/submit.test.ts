import { defineOperation, refuse } from 'accepted'
import t from 'tap'
import Type from 'typebox'
import type { Problem } from '../../../src/http/protocol/problem.ts'
import { serve } from '../../support/api.ts'
import { get, metricsToken, post, readMetrics } from '../../support/client.ts'
import { until } from '../../support/until.ts'

const createNote = defineOperation({
  name: 'note.create',
  route: { method: 'POST', url: '/notes' },
  input: Type.Object({ text: Type.String({ maxLength: 100_000 }), count: Type.Optional(Type.Integer()) }),
})

const strict = defineOperation({
  name: 'note.strict',
  route: { method: 'PUT', url: '/notes/:id' },
  params: Type.Object({ id: Type.Integer() }),
  input: Type.Object({}),
  idempotencyKey: 'required',
  accept: async (_trx, entries) =>
    entries.map(({ params }) =>
      params.id === 13 ? refuse(409, 'unlucky', 'Thirteen is taken') : { payload: {}, resource: `/notes/${params.id}` },
    ),
})

const bounded = defineOperation({
  name: 'note.bound',
  route: { method: 'POST', url: '/bounded' },
  input: Type.Object({}),
  maxBacklog: 1,
  bodyLimit: 50,
})

const shared = defineOperation({
  name: 'note.share',
  route: { method: 'POST', url: '/shared/:id' },
  params: Type.Object({ id: Type.String() }),
  input: Type.Object({ part: Type.String() }),
  accept: async (_trx, entries) => entries.map(({ input }) => ({ payload: input })),
  coalesce: {
    key: ({ part }, { id }) => {
      if (part === 'breaks') throw Object.assign(new Error('secret'), { statusCode: 404 })
      return id === 'none' ? '' : `${id} ${part}`
    },
    ...{ forSeconds: 3_600, mode: 'first' },
  },
})

const operations = { createNote, strict, bounded, shared, other: 'no operation' }
const setUp = (t: Parameters<typeof serve>[0]) =>
  serve(t, { operations, metricsToken, authenticate: (request) => request.headers['x-user']?.toString() ?? 'ann' })

t.test('an accepted request gets 202 with the monitor as the body and both URLs in the headers', async (t) => {
  const { url } = await setUp(t)
  const { status, headers, body } = await post(`${url}/notes`, { text: 'x' })
  t.equal(status, 202)
  t.equal(headers.get('operation-location'), `${url}/jobs/${body.id}`)
  t.equal(headers.get('content-location'), `${url}/jobs/${body.id}`)
  t.equal(headers.get('location'), `${url}/jobs/${body.id}/result`)
  t.equal(headers.get('retry-after'), '1')
  t.equal(headers.get('cache-control'), 'no-store')
  t.same((await get(body.links.self)).body, body)
})

t.test('links start with the origin of the request, or with the public URL if one is configured', async (t) => {
  const { url } = await setUp(t)
  const { port } = new URL(url)
  const { headers } = await post(`http://localhost:${port}/notes`, { text: 'x' })
  t.match(headers.get('location'), `http://localhost:${port}/jobs/`)
  const behindProxy = await serve(t, { operations: { createNote }, publicUrl: 'https://api.example.com' })
  const { body } = await post(`${behindProxy.url}/notes`, { text: 'x' })
  t.match(body.links.self, /^https:\/\/api\.example\.com\/jobs\//)
})

t.test('a request with an invalid body gets 400 with every violation, and nothing is stored', async (t) => {
  const { database, url } = await setUp(t)
  const { status, headers, body } = await post(`${url}/notes`, { text: 7, count: '1' })
  t.equal(status, 400)
  t.equal(headers.get('content-type'), 'application/problem+json; charset=utf-8')
  t.match(body, { type: '/docs/problems/invalid-body', instance: '/notes', error: { code: 'invalid-body' } })
  t.same(body.error.details.map(({ pointer }: { pointer: string }) => pointer).sort(), ['/count', '/text'])
  const { rows } = await database.pool.query('select from accepted.job')
  t.equal(rows.length, 0)
})

t.test('a request gets 400 if its body matches the JSON schema but cannot be stored in Postgres', async (t) => {
  const { url } = await setUp(t)
  const send = (body: string | Buffer<ArrayBuffer>, type = 'application/json') =>
    fetch(`${url}/notes`, { method: 'POST', headers: { 'content-type': type }, body })
  for (const [body, code] of [
    ['{"text": "\\u0000"}', 'invalid-body'],
    ['{"text": "\\ud800"}', 'invalid-body'],
    ['{"text": "x", "more": {"\\ud800": 1}}', 'invalid-body'],
    ['{"text": "x", "more": 1e400}', 'invalid-body'],
    [`{"text": "x", "more": ${'['.repeat(10_000)}${']'.repeat(10_000)}}`, 'invalid-body'],
    ['{"text": "x", "__proto__": {}}', 'malformed-json'],
    ['{"text": ', 'malformed-json'],
    ['', 'malformed-json'],
    [Buffer.from([0x7b, 0xff, 0x7d]), 'malformed-json'],
  ] as const) {
    const response = await send(body)
    t.equal(response.status, 400, String(body).slice(0, 40))
    t.equal(((await response.json()) as Problem).error.code, code, String(body).slice(0, 40))
  }
  t.equal((await send('x', 'text/plain')).status, 415)
  t.equal((await send(JSON.stringify({ text: 'x'.repeat(2 ** 20) }))).status, 413)
})

t.test('an operation can set its body limit, and a request gets 503 while the backlog is full', async (t) => {
  const { url } = await setUp(t)
  t.equal((await post(`${url}/bounded`, { much: 'x'.repeat(100) })).status, 413)
  t.equal((await post(`${url}/bounded`, {})).status, 202)
  // The size of the backlog is cached for a second.
  const full = await until(async () => {
    const answer = await post(`${url}/bounded`, {})
    return answer.status === 503 && answer
  })
  t.equal(full.body.error.code, 'backlog-full')
  t.match(full.headers.get('retry-after'), /^[1-9]/)
})

t.test('requests with one coalescing key get 202 with the same job, and its watchers see how many', async (t) => {
  const { url } = await setUp(t)
  const first = await post(`${url}/shared/1`, { part: 'a' })
  const monitorUrl = first.headers.get('operation-location') as string
  const { headers } = await get(monitorUrl)
  const waiting = get(monitorUrl, { prefer: 'wait=30', 'if-none-match': headers.get('etag') as string })
  const later = await post(`${url}/shared/1`, { part: 'a' }, { 'idempotency-key': 'k' })
  t.equal(later.status, 202)
  t.same(later.body, { ...first.body, coalesced: 1, sequence: 2, updatedAt: later.body.updatedAt })
  for (const name of ['operation-location', 'content-location', 'location', 'retry-after', 'cache-control']) {
    t.equal(later.headers.get(name), first.headers.get(name), name)
  }
  t.equal(later.headers.get('idempotent-replayed'), null)
  t.same((await waiting).body, later.body)
  t.not((await waiting).headers.get('etag'), headers.get('etag'))
  const replay = await post(`${url}/shared/1`, { part: 'a' }, { 'idempotency-key': 'k' })
  t.match(replay, { status: 202, body: later.body })
  t.equal(replay.headers.get('idempotent-replayed'), 'true')
  t.match((await post(`${url}/shared/2`, { part: 'a' })).body, { coalesced: undefined, sequence: 1 })
  const metrics = await readMetrics(url)
  for (const [outcome, count] of Object.entries({ accepted: 2, coalesced: 1, replayed: 1 })) {
    t.match(metrics, `accepted_requests_total{operation="note.share",outcome="${outcome}"} ${count}`)
  }
})

t.test('a request whose coalescing key is empty or too long gets 400, and 500 if there is none', async (t) => {
  const { database, url } = await setUp(t)
  for (const [path, part, status, code, message] of [
    ['none', 'a', 400, 'invalid-body', /coalescing key of 0 characters; allowed are 1 to 255/],
    ['1', 'a'.repeat(254), 400, 'invalid-body', /coalescing key of 256 characters/],
    ['1', 'breaks', 500, 'internal-error', /^Internal error/],
  ] as const) {
    const answer = await post(`${url}/shared/${path}`, { part })
    t.match(answer, { status, body: { error: { code, message } } })
  }
  t.match((await database.pool.query('select from accepted.job')).rows, [])
  t.equal((await post(`${url}/shared/1`, { part: 'a'.repeat(253) })).status, 202)
})

t.test('a surplus member is reported as one violation that contains its name', async (t) => {
  const closed = defineOperation({
    name: 'note.closed',
    route: { method: 'POST', url: '/closed' },
    input: Type.Object({}, { additionalProperties: false }),
  })
  const { url } = await serve(t, { operations: { closed } })
  const { body } = await post(`${url}/closed`, { more: 1 })
  t.match(body.error.details, [{ pointer: '', message: /additional properties: more/ }])
  t.equal(body.error.details.length, 1)
})

t.test('path parameters are validated, and a refused request does not take its key', async (t) => {
  const { url } = await setUp(t)
  const put = (path: string, key?: string) =>
    fetch(url + path, {
      method: 'PUT',
      headers: { 'content-type': 'application/json', ...(key && { 'idempotency-key': key }) },
      body: '{}',
    })
  const wrong = await put('/notes/x', 'k')
  t.same([wrong.status, ((await wrong.json()) as Problem).error.code], [400, 'invalid-parameter'])
  const keyless = await put('/notes/1')
  t.same([keyless.status, ((await keyless.json()) as Problem).error.code], [400, 'idempotency-key-required'])
  const refused = await put('/notes/13', 'k')
  t.same(
    [refused.status, ((await refused.json()) as Problem).error],
    [409, { code: 'unlucky', message: 'Thirteen is taken' }],
  )
  t.equal((await put('/notes/14', 'k')).status, 202, 'the refused request did not take the key')
})

t.test('a number in the path that would be altered silently gets 400 with a pointer', async (t) => {
  const { database, url } = await setUp(t)
  const put = (id: string) =>
    fetch(`${url}/notes/${id}`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json', 'idempotency-key': id },
      body: '{}',
    })
  for (const id of ['9007199254740993', '1e400', '1.00000000000000000000001']) {
    const response = await put(id)
    const { error } = (await response.json()) as Problem
    t.same([response.status, error.code], [400, 'invalid-parameter'], id)
    t.match(error.details, [{ pointer: '/id' }])
  }
  t.equal((await put('9007199254740992')).status, 202)
  const { rows } = await database.pool.query('select from accepted.job')
  t.equal(rows.length, 1)
})

t.test('a repeated request gets the same job, even if its key, query and body are written differently', async (t) => {
  const { url } = await setUp(t)
  const first = await post(`${url}/notes?a=1&b=2`, { text: 'x', count: 1 }, { 'idempotency-key': '"k 1"' })
  t.equal(first.headers.get('idempotent-replayed'), null)
  const again = await post(
    `${url}/notes?b=2&a=1`,
    { count: 1, text: 'x' },
    { 'idempotency-key': 'k 1', prefer: 'wait=1' },
  )
  t.equal(again.status, 202)
  t.equal(again.headers.get('idempotent-replayed'), 'true')
  t.same(again.body, first.body)
  t.equal(again.headers.get('operation-location'), first.headers.get('operation-location'))
})

t.test('a repeated key with another body or route gets 422; another principal can use the same key', async (t) => {
  const { url } = await setUp(t)
  const key = { 'idempotency-key': 'k' }
  const { body } = await post(`${url}/notes`, { text: 'x' }, key)
  const other = await post(`${url}/notes`, { text: 'y' }, key)
  t.same([other.status, other.body.error.code], [422, 'idempotency-key-reused'])
  t.equal((await post(`${url}/bounded`, {}, key)).status, 422)
  const bobs = await post(`${url}/notes`, { text: 'y' }, { ...key, 'x-user': 'bob' })
  t.equal(bobs.status, 202)
  t.not(bobs.body.id, body.id)
})

t.test('a request with an invalid Idempotency-Key gets 400', async (t) => {
  const { url } = await setUp(t)
  for (const key of ['', '""', 'x'.repeat(256), 'ä', '"a', '"a" b']) {
    const { status, body } = await post(`${url}/notes`, { text: 'x' }, { 'idempotency-key': key })
    t.same([status, body.error.code], [400, 'invalid-idempotency-key'], key)
  }
})

t.test('a replay for a failed job gets 202 with that job', async (t) => {
  const { database, url } = await setUp(t)
  const key = { 'idempotency-key': 'k' }
  const { body } = await post(`${url}/notes`, { text: 'x' }, key)
  await database.pool.query(
    `update accepted.job set status = 'failed', ended_at = now(), error = '{"code": "c", "message": "m", "public": true}'`,
  )
  const replay = await post(`${url}/notes`, { text: 'x' }, key)
  t.match(replay, { status: 202, body: { id: body.id, status: 'failed' } })
})

t.test('after the record of a job has expired, requests with its key create exactly one new job', async (t) => {
  const { database, url } = await setUp(t)
  const key = { 'idempotency-key': 'k' }
  const { body } = await post(`${url}/notes`, { text: 'x' }, key)
  await database.pool.query(
    `update accepted.job set status = 'succeeded', ended_at = now(), expires_at = now() - interval '1 second'`,
  )
  const answers = await Promise.all(Array.from({ length: 5 }, () => post(`${url}/notes`, { text: 'y' }, key)))
  const ids = new Set(answers.map((answer) => answer.body.id))
  t.same([ids.size, ids.has(body.id)], [1, false])
})

t.test('a request waits while another transaction holds its key, and gets 409 after the lock timeout', async (t) => {
  const { database, url } = await setUp(t)
  const key = { 'idempotency-key': 'k' }
  const client = await database.pool.connect()
  await client.query('begin')
  await client.query(`insert into accepted.idempotency_key values ('ann', 'k', sha256('x'), gen_random_uuid())`)
  const { status, headers, body } = await post(`${url}/notes`, { text: 'x' }, key)
  t.same([status, body.error.code], [409, 'idempotency-key-locked'])
  t.match(headers.get('retry-after'), /^[1-9]/)
  const waiting = post(`${url}/notes`, { text: 'x' }, key)
  await client.query('rollback')
  client.release()
  t.equal((await waiting).status, 202)
})

t.test('50 simultaneous requests with one key create one job', async (t) => {
  const { database, url } = await setUp(t)
  /** Sends the request again while another one with the key takes too long, as a client should. */
  const send = async () => {
    for (;;) {
      const answer = await post(`${url}/notes`, { text: 'x' }, { 'idempotency-key': 'k' })
      if (answer.body.error?.code !== 'idempotency-key-locked') return answer
    }
  }
  const answers = await Promise.all(Array.from({ length: 50 }, send))
  t.same(new Set(answers.map(({ status }) => status)), new Set([202]))
  t.equal(new Set(answers.map(({ body }) => body.id)).size, 1)
  t.equal(answers.filter(({ headers }) => !headers.has('idempotent-replayed')).length, 1)
  const { rows } = await database.pool.query('select from accepted_queue.job')
  t.equal(rows.length, 1)
})

t.test('if the queue of an operation was deleted, a request gets 500 and stores no job', async (t) => {
  const { database, url } = await setUp(t)
  await database.pool.query("select accepted_queue.delete_queue('note.create')")
  const { status } = await post(`${url}/notes`, { text: 'x' })
  t.equal(status, 500)
  t.equal((await database.pool.query('select from accepted.job')).rowCount, 0)
})
