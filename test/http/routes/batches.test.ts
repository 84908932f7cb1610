import { once } from 'node:events'
import { request } from 'node:http'
import { gzipSync } from 'node:zlib'
import { type Batch, defineOperation, refuse } from 'accepted'
import type { Transaction } from 'kysely'
import t from 'tap'
import Type from 'typebox'
import { readBatch } from '../../../src/http/batches/read.ts'
import { serve } from '../../support/api.ts'
import { get, type JsonResponse, post } from '../../support/client.ts'
import { until } from '../../support/until.ts'

/** The sizes of the arrays that `accept` has received. */
let acceptedTogether: number[] = []

const note = defineOperation({
  name: 'note.create',
  route: { method: 'POST', url: '/notes' },
  input: Type.Object({ text: Type.String() }, { additionalProperties: false }),
})
const move = defineOperation({
  name: 'note.move',
  route: { method: 'PUT', url: '/notes/:id' },
  params: Type.Object({ id: Type.Integer() }),
  input: Type.Object({}),
  payload: Type.Object({ id: Type.Integer() }),
  accept: async (_trx, entries) => {
    acceptedTogether.push(entries.length)
    return entries.map(({ id, params }) =>
      params.id === 13
        ? refuse(409, 'unlucky', 'Thirteen is taken')
        : { payload: { id: params.id }, resource: `/notes/${params.id}?job=${id}` },
    )
  },
})
const remove = defineOperation({
  ...{ name: 'note.remove', route: { method: 'DELETE', url: '/notes' }, input: Type.Object({}) },
  idempotencyKey: 'required',
})
const bounded = defineOperation({
  ...{ name: 'note.bound', route: { method: 'POST', url: '/bounded' }, input: Type.Object({}) },
  ...{ maxBacklog: 3, bodyLimit: 50 },
})
const anything = defineOperation({ name: 'any.thing', route: { method: 'POST', url: '/any' }, input: Type.Unknown() })
const inner = defineOperation({ name: 'note.inner', input: Type.Object({}) })
const operations = { note, move, remove, bounded, anything, inner }

const authenticate = (request: { headers: Record<string, unknown> }) => `${request.headers['x-user'] ?? 'ann'}`
const { app, url, database } = await serve(t, { operations, authenticate })
const rows = async (text: string, ...values: unknown[]) => (await database.pool.query(text, values)).rows

const item = (text = 'x') => ({ operation: 'note.create', input: { text } })
const submit = (body: unknown, headers?: Record<string, string>) => post(`${url}/batches`, body, headers)

async function send(
  body: string | Uint8Array<ArrayBuffer>,
  type = 'application/x-ndjson',
  headers = {},
): Promise<JsonResponse> {
  const response = await fetch(`${url}/batches`, {
    method: 'POST',
    body,
    headers: { 'content-type': type, ...headers },
  })
  return { status: response.status, headers: response.headers, body: await response.json() }
}

const counts = async () =>
  (
    await rows(`select (select count(*)::int from accepted.job) as jobs, (select count(*)::int from accepted_queue.job)
      as queued, (select count(*)::int from accepted.parent) as batches,
      (select count(*)::int from accepted.idempotency_key) as keys`)
  )[0]

t.test('a batch gets 202 with its monitor, and its jobs are its children', async (t) => {
  const { status, headers, body } = await submit({
    items: [
      { ...item('a'), key: 'k' },
      { operation: 'note.move', input: {}, params: { id: '7' } },
      { operation: 'note.move', input: {}, params: { id: 8 } },
      { operation: 'note.remove', key: 'r' },
    ],
    onEnd: { operation: 'note.move', input: {}, params: { id: 9 } },
  })
  t.equal(status, 202)
  t.equal(headers.get('operation-location'), `${url}/jobs/${body.id}`)
  t.equal(headers.get('content-location'), `${url}/jobs/${body.id}`)
  t.equal(headers.get('location'), `${url}/jobs/${body.id}/result`)
  t.equal(headers.get('retry-after'), '1')
  t.equal(headers.get('cache-control'), 'no-store')
  t.match(body, {
    ...{ operation: 'batch', status: 'running', percentComplete: 0 },
    children: { total: 4, succeeded: 0, failed: 0, canceled: 0 },
    links: { children: `${url}/jobs?parent=${body.id}` },
  })
  t.same((await get(body.links.self)).body, body)
  const jobs = await rows(
    `select job.operation, job.principal, job.idempotency_key as key, job.resource, queued.data -> 'payload' as payload
    from accepted.job join accepted_queue.job queued on queued.name = job.operation and queued.id = job.id
    where parent = $1 order by job.id`,
    body.id,
  )
  t.match(jobs, [
    { operation: 'note.create', principal: 'ann', key: 'k', payload: { text: 'a' } },
    { operation: 'note.move', key: null, payload: { id: 7 }, resource: /^\/notes\/7\?job=/ },
    { operation: 'note.move', payload: { id: 8 } },
    { operation: 'note.remove', key: 'r', payload: {} },
  ])
  t.match((await get(body.links.children)).body.value, [{}, {}, { parent: body.id }, {}])

  await rows('select accepted.cancel($1)', body.id)
  t.match((await get(body.links.self)).body, { status: 'canceled', children: { total: 4, canceled: 4 } })
  const [next] = await rows(`select id, resource, batch from accepted.job where batch ->> 'id' = $1`, body.id)
  t.equal(next.resource, `/notes/9?job=${next.id}`, 'accept has written its rows for the id of this job')
  t.match(next.batch, { total: 4, canceled: 4 })
})

t.test('NDJSON: an item a line, after an optional line with the other members', async (t) => {
  const line = (value: unknown) => JSON.stringify(value)
  const plain = await send([item('a'), item('b')].map(line).join('\n'))
  t.match(plain, { status: 202, body: { children: { total: 2 } } })
  const bom = '\uFEFF'
  const text = [bom + line({ allowFailures: true, onEnd: item() }), '', line(item()), ' \t', line(item()), ''].join(
    '\r\n',
  )
  const full = await send(text, 'application/x-ndjson; charset=utf-8')
  t.match(full, { status: 202, body: { children: { total: 2 } } })
  t.match(await rows('select allow_failures, on_end from accepted.parent where job_id = $1', full.body.id), [
    { allow_failures: true, on_end: { operation: 'note.create', payload: { text: 'x' } } },
  ])
})

t.test('an Idempotency-Key covers the whole batch', async (t) => {
  const batch = { items: [item('a'), item('b')], onEnd: item() }
  const key = { 'idempotency-key': '"b1"' }
  const first = await submit(batch, key)
  const before = await counts()
  const again = await send(JSON.stringify(batch, null, 1), 'application/json', { 'idempotency-key': 'b1' })
  t.match(again, { status: 202, body: { id: first.body.id } })
  t.equal(again.headers.get('idempotent-replayed'), 'true')
  const others = [
    { ...batch, items: [item('b'), item('a')] },
    { ...batch, allowFailures: true },
    { items: batch.items },
  ]
  for (const other of others) {
    t.match(await submit(other, key), { status: 422, body: { error: { code: 'idempotency-key-reused' } } })
  }
  t.match(await post(`${url}/notes`, { text: 'x' }, key), { status: 422 })
  t.same(await counts(), before)
  t.match(await submit(batch, { ...key, 'x-user': 'bob' }), { status: 202 }, 'another principal has other keys')
  t.match(await submit(batch, { 'idempotency-key': '' }), { body: { error: { code: 'invalid-idempotency-key' } } })
  const both = await Promise.all([
    submit(batch, { 'idempotency-key': 'b2' }),
    submit(batch, { 'idempotency-key': 'b2' }),
  ])
  t.equal(both[0].body.id, both[1].body.id)
})

t.test('the request waits if it prefers to, and the caller may choose the webhook endpoint', async (t) => {
  const minimal = await fetch(`${url}/batches`, {
    ...{ method: 'POST', body: JSON.stringify({ items: [item()] }) },
    headers: { 'content-type': 'application/json', prefer: 'return=minimal, respond-async' },
  })
  t.match(minimal, { status: 202 })
  t.equal(minimal.headers.get('preference-applied'), 'respond-async, return=minimal')
  t.equal(await minimal.text(), '')
  t.match(await submit({ items: [item()] }, { 'accepted-webhook': 'none' }), {
    ...{ status: 400, body: { error: { code: 'unknown-webhook' } } },
  })
  t.equal((await submit({ items: [item()] }, { accept: 'text/html' })).status, 406)
})

t.test('an invalid batch gets 400 with pointers, and nothing is stored', async (t) => {
  const before = await counts()
  for (const [body, ...pointers] of [
    [{}, ''],
    [[], ''],
    [null, ''],
    [{ items: [] }, '/items'],
    [{ items: {} }, '/items'],
    [{ items: null }, '/items'],
    [{ items: [item()], extra: 1 }, ''],
    [{ items: [item()], allowFailures: 'yes' }, '/allowFailures'],
    [{ items: [item(), 5, null] }, '/items/1', '/items/2'],
    [{ items: [item(), { ...item(), extra: 1 }] }, '/items/1'],
    [{ items: [item(), { input: {} }] }, '/items/1'],
    [{ items: [{ operation: 'note.creat', input: {} }] }, '/items/0/operation'],
    [{ items: [{ operation: 'note.inner', input: {} }] }, '/items/0/operation'],
    [{ items: [{ operation: 'batch', input: {} }] }, '/items/0/operation'],
    [{ items: [{ operation: 'webhook.deliver', input: {} }] }, '/items/0/operation'],
    [{ items: [{ operation: 5, input: {} }] }, '/items/0/operation'],
    [{ items: [{ operation: 'note.create' }] }, '/items/0'],
    [{ items: [{ operation: 'note.create', input: { text: 5 } }] }, '/items/0/input/text'],
    [{ items: [{ operation: 'note.create', input: { text: '', more: 1 } }] }, '/items/0/input'],
    [{ items: [item(), { operation: 'note.move', input: {} }] }, '/items/1/params'],
    [{ items: [{ operation: 'note.move', input: {}, params: { id: 'x' } }] }, '/items/0/params/id'],
    [{ items: [{ operation: 'note.move', input: {}, params: { id: '9007199254740993' } }] }, '/items/0/params/id'],
    [{ items: [{ operation: 'note.move', input: {}, params: { id: 1, other: 1 } }] }, '/items/0/params'],
    [{ items: [{ operation: 'note.move', input: {}, params: { id: '' } }] }, '/items/0/params/id'],
    [{ items: [{ ...item(), params: { id: 1 } }] }, '/items/0/params'],
    [{ items: [{ operation: 'note.remove', input: {} }] }, '/items/0'],
    [{ items: [{ ...item(), key: '' }] }, '/items/0/key'],
    [{ items: [{ ...item(), key: 'ä' }] }, '/items/0/key'],
    [{ items: [{ ...item(), key: 'k'.repeat(256) }] }, '/items/0/key'],
    [{ items: [{ operation: 'note.bound', input: { padding: 'x'.repeat(50) } }] }, '/items/0/input'],
    [{ items: Array(4).fill({ operation: 'note.bound', input: {} }) }, '/items'],
    [{ items: [item('\0')] }, '/items/0/input/text'],
    [{ items: [item()], onEnd: null }, '/onEnd'],
    [{ items: [item()], onEnd: { operation: 'none', input: {} } }, '/onEnd/operation'],
    [{ items: [item()], onEnd: { operation: 'note.inner', input: {} } }, '/onEnd/operation'],
    [{ items: [item()], onEnd: { operation: 'note.create', input: {} } }, '/onEnd/input'],
    [{ items: [item()], onEnd: { ...item(), key: 'k' } }, '/onEnd'],
  ] as [unknown, ...string[]][]) {
    const answer = await submit(body)
    const text = JSON.stringify(body)?.slice(0, 200)
    t.match(answer, { status: 400, body: { error: { code: 'invalid-body' } } }, text)
    const found = answer.body.error.details.map(({ pointer }: { pointer: string }) => pointer)
    t.same([...new Set(found)], pointers, text)
  }
  const misspelt = await submit({ items: [{ operation: 'note.creat', input: {} }] })
  t.match(misspelt.body.error.details[0].message, /Did you mean note\.create\?$/)
  t.same(await counts(), before)
})

t.test('an item is parsed as strictly as the body of its route', async (t) => {
  const before = await counts()
  const good = JSON.stringify(item())
  const nested = (depth: number) => `{"operation": "any.thing", "input": ${'['.repeat(depth)}${']'.repeat(depth)}}`
  const big = (length: number) => `{"operation": "any.thing", "input": "${'x'.repeat(length)}"}`
  for (const [line, code, pointer] of [
    ['{"operation": "note.create", "input": {"text": "a", "text": "b"}}', 'invalid-body', '/items/1/input/text'],
    ['{"operation": "any.thing", "operation": "note.create", "input": 1}', 'invalid-body', '/items/1/operation'],
    ['{"operation": "any.thing", "input": 9007199254740993}', 'invalid-body', '/items/1/input'],
    ['{"operation": "any.thing", "input": 1e400}', 'invalid-body', '/items/1/input'],
    ['{"operation": "any.thing", "input": "\\ud800"}', 'invalid-body', '/items/1/input'],
    ['{"operation": "any.thing", "input": {"__proto__": 1}}', 'malformed-json', '/items/1/input/__proto__'],
    [nested(101), 'invalid-body', `/items/1/input${'/0'.repeat(100)}`],
    [big(1024 * 1024), 'invalid-body', '/items/1/input'],
    [big(2 * 1024 * 1024), 'invalid-body', '/items/1'],
    ['{"operation": "note.create", "inp', 'malformed-json', '/items/1'],
    ['{"operation": "note.create"} {}', 'malformed-json', '/items/1'],
    ['[]]', 'malformed-json', '/items/1'],
    [`\uFEFF${good}`, 'malformed-json', '/items/1'],
  ] as const) {
    for (const [type, body] of [
      ['application/x-ndjson', `${good}\n${line}\n${good}`],
      ['application/json', `{"items": [${good}, ${line}, ${good}]}`],
    ] as const) {
      const answer = await send(body, type)
      // In JSON, an open string or an unbalanced bracket changes where the items end.
      if (/inp$|^\[\]\]$/.test(line) && type === 'application/json')
        t.match(answer, { body: { error: { code: 'malformed-json' } } })
      else {
        t.match(
          answer,
          { status: 400, body: { error: { code, details: [{ pointer }] } } },
          `${type} ${line.slice(0, 80)}`,
        )
      }
    }
  }
  const latin = Buffer.from(`${good}\n{"operation": "any.thing", "input": "\xe4"}`, 'latin1')
  t.match(await send(latin), { body: { error: { code: 'malformed-json', details: [{ pointer: '/items/1' }] } } })
  t.same(await counts(), before)
  t.match(await send([nested(100), big(1024 * 1024 - 2)].join('\n')), { status: 202 }, 'as much as a route allows')
})

t.test('the text around the items is parsed as strictly', async (t) => {
  const before = await counts()
  const good = JSON.stringify(item())
  for (const [body, code] of [
    ['', 'malformed-json'],
    ['{', 'malformed-json'],
    [`{"items": [${good}`, 'malformed-json'],
    [`{"items": [${good}}`, 'malformed-json'],
    [`{"items": [${good},]}`, 'malformed-json'],
    [`{"items": [,${good}]}`, 'malformed-json'],
    [`{"items": [,]}`, 'malformed-json'],
    [`{"items": [${good} ${good}]}`, 'malformed-json'],
    [`{"items" [${good}]}`, 'malformed-json'],
    [`{"items": [${good}]} x`, 'malformed-json'],
    [`{"items": [${good}]`, 'malformed-json'],
    [`{"items": [${good}], "__proto__": 1}`, 'malformed-json'],
    [`{"items": [${good}], "items": [${good}]}`, 'invalid-body'],
    [`{"items": [${good}], "onEnd": ${good}, "onEnd": ${good}}`, 'invalid-body'],
    [`{"items": [${good}], "note": "${'x'.repeat(2 * 1024 * 1024)}"}`, 'invalid-body'],
    [`"${'\\"'.repeat(1024 * 1024)}"`, 'invalid-body'],
    [`{"items": [[${'['.repeat(500_000)}`, 'malformed-json'],
  ] as const) {
    const answer = await send(body, 'application/json')
    t.match(answer, { status: 400, body: { error: { code } } }, body.slice(0, 100))
  }
  const { body } = await send(`{"input": {}}\n${good}`)
  t.match(body.error.details, [{ pointer: '', message: /input/ }], 'a first line without operation')
  t.match((await send(`{"onEnd": ${good}}`)).body.error.details, [{ pointer: '/items' }])
  t.match((await send('\r\n\n')).body.error.details, [{ pointer: '/items' }])
  t.same(await counts(), before)
  const escaped = `{"x\\"y": 1, "it\\u0065ms" : [ ${good} ] }`
  t.match(await send(escaped, 'application/json'), { body: { error: { details: [{ pointer: '', message: /x"y/ }] } } })
  t.match(await send(`\uFEFF{"it\\u0065ms" : [ ${good} ] }`, 'application/json'), { status: 202 })
})

t.test('an operation that refuses an item refuses the batch', async (t) => {
  const before = await counts()
  const moves = [1, 13, 2, 13].map((id) => ({ operation: 'note.move', input: {}, params: { id } }))
  const answer = await submit({ items: [item(), ...moves] }, { 'idempotency-key': 'refused' })
  t.match(answer, { status: 409, body: { error: { code: 'unlucky', message: 'Thirteen is taken' } } })
  t.match(answer.headers.get('content-type'), /^application\/problem\+json/)
  t.match(answer.body.error.details, [{ pointer: '/items/2', keyword: 'unlucky' }, { pointer: '/items/4' }])
  t.match(await submit({ items: [item()], onEnd: moves[1] }), {
    ...{ status: 409, body: { error: { details: [{ pointer: '/onEnd' }] } } },
  })
  t.same(await counts(), before)
})

t.test('a batch respects the backlogs of its operations', async (t) => {
  const items = (count: number) => ({ items: Array(count).fill({ operation: 'note.bound', input: {} }) })
  t.equal((await submit(items(2))).status, 202)
  const full = await submit(items(2))
  t.match(full, { status: 503, body: { error: { code: 'backlog-full' } } })
  t.equal(full.headers.get('retry-after'), '5')
  t.equal((await submit(items(1))).status, 202)
})

t.test('a batch has at most 10,000 items and 16 MiB, and no Content-Encoding', async (t) => {
  const before = await counts()
  const line = `${JSON.stringify(item())}\n`
  for (const [body, type] of [
    [line.repeat(10_001), 'application/x-ndjson'],
    [`{"allowFailures":true}\n${line.repeat(10_001)}`, 'application/x-ndjson'],
    [`{"items":[${line.repeat(10_001).trim().replaceAll('\n', ',')}]}`, 'application/json'],
  ] as const) {
    t.match(await send(body, type), {
      ...{ status: 400, body: { error: { details: [{ pointer: '/items', message: /at most 10000/ }] } } },
    })
  }
  const large = await send(' '.repeat(16 * 1024 * 1024 + 1)).catch(() => ({ status: 413 }))
  t.equal(large.status, 413)
  t.equal((await send(gzipSync(line), 'application/x-ndjson', { 'content-encoding': 'gzip' })).status, 415)
  t.equal((await send(line, 'text/plain')).status, 415)
  t.same(await counts(), before)
  acceptedTogether = []
  const move = JSON.stringify({ operation: 'note.move', input: {}, params: { id: 1 } })
  const answer = await send(`{"allowFailures":true}\n${`${move}\n`.repeat(10_000)}`)
  t.match(answer, { status: 202, body: { children: { total: 10_000 } } })
  t.equal(Math.max(...acceptedTogether), 128, 'accept gets no more entries than from single requests')
})

t.test('a large batch does not keep other requests waiting', async (t) => {
  const large = { operation: 'any.thing', input: Array(600).fill({ number: 12345.678 }) }
  const operations = new Map([['any.thing', anything]])
  for (const [text, isNdjson] of [
    [JSON.stringify({ items: Array(1_000).fill(large) }), false],
    [`${JSON.stringify(large)}\n`.repeat(1_000), true],
    [`{"items": [${'"\\""'.repeat(4 * 1024 * 1024)}]}`, false],
    ['\n'.repeat(16 * 1024 * 1024), true],
  ] as const) {
    const received = { text: Buffer.from(text), isNdjson }
    let turns = 0
    const counter = setInterval(() => turns++, 1)
    await readBatch(received, { principal: 'ann' }, operations, async (_used, makeDigest) => {
      await makeDigest()
      return undefined
    }).catch(() => {})
    clearInterval(counter)
    t.ok(turns > 2, `${turns} turns of the event loop: ${text.slice(0, 30)}`)
  }
})

t.test('the batches that a principal sends at the same time have a maximum size', async (t) => {
  const begin = async () => {
    const headers = { 'content-type': 'application/json', 'content-length': 16 * 1024 * 1024, 'x-user': 'max' }
    const sent = request(`${url}/batches`, {
      ...{ method: 'POST', agent: false, headers: { ...headers, expect: '100-continue' } },
    })
    sent.on('error', () => {})
    sent.flushHeaders()
    await once(sent, 'continue')
    return sent
  }
  const open = [await begin(), await begin()]
  const refused = await submit({ items: [item()] }, { 'x-user': 'max' })
  t.match(refused, { status: 429, body: { error: { code: 'too-many-requests' } } })
  t.equal(refused.headers.get('retry-after'), '1')
  t.equal((await submit({ items: [item()] })).status, 202, 'another principal')
  for (const sent of open) sent.destroy()
  await until(async () => (await submit({ items: [item()] }, { 'x-user': 'max' })).status === 202)
})

t.test('the route can be moved or left out', async (t) => {
  const batches = defineOperation({ name: 'b', route: { method: 'POST', url: '/batches' }, input: Type.Object({}) })
  await t.rejects(serve(t, { operations: { batches } }), /already has a route POST \/batches\..*option routes/)
  const moved = await serve(t, { operations: { batches, note }, routes: { batches: '/accepted/batches' } })
  t.match(await post(`${moved.url}/accepted/batches`, { items: [item()] }), { body: { operation: 'batch' } })
  t.match(await post(`${moved.url}/batches`, {}), { body: { operation: 'b' } })
})

t.test('code enqueues a batch in its transaction, with the checks of enqueue', async (t) => {
  const { accepted } = app
  const before = await counts()
  const transact = <Result>(work: (trx: Transaction<unknown>) => Promise<Result>) =>
    accepted.db.transaction().execute(work)
  const other = defineOperation({ name: 'note.inner', input: Type.Object({}) })
  for (const [batch, message] of [
    [{ items: [] }, /1 to 10000 items, not 0/],
    [{ items: Array(10_001).fill({ operation: inner, payload: {} }) }, /not 10001/],
    [{ items: [{ operation: other, payload: {} }] }, /'note\.inner' is not registered/],
    [{ items: [{ operation: note, payload: { text: 5 } }] }, /payload does not match.*\/text must be string/],
    [{ items: [{ operation: inner, payload: {} }], onEnd: { operation: other, payload: {} } }, /not registered/],
    [{ items: [{ operation: inner, payload: {} }], onEnd: { operation: note, payload: {} } }, /does not match/],
  ] as [Batch, RegExp][]) {
    await t.rejects(
      transact((trx) => accepted.enqueueBatch(trx, batch)),
      { name: 'TypeError', message },
    )
  }
  await t.rejects(accepted.enqueueBatch(accepted.db as never, { items: [{ operation: inner, payload: {} }] }), {
    message: /needs a transaction/,
  })
  t.same(await counts(), before)
  const job = await transact((trx) =>
    accepted.enqueueBatch(trx, {
      ...{ allowFailures: true, principal: 'ann', onEnd: { operation: inner, payload: {} } },
      items: [
        { operation: inner, payload: {}, key: 'k' },
        { operation: move, payload: { id: 5 } },
      ],
    }),
  )
  t.match(job, { operation: 'batch', status: 'running', children: { total: 2 } })
  t.match((await get(`${url}/jobs?parent=${job.id}`)).body.value, [
    { operation: 'note.move', parent: job.id },
    { operation: 'note.inner', parent: job.id },
  ])
  const client = await database.pool.connect()
  await client.query('begin')
  await accepted.enqueueBatch(client, { items: [{ operation: inner, payload: {} }] })
  await client.query('rollback')
  client.release()
  t.equal((await counts()).batches, before.batches + 1)
})

t.test('a list of children has pages, and strangers see nothing', async (t) => {
  const { body: batch } = await submit({ items: Array.from({ length: 5 }, (_, index) => item(`${index}`)) })
  await submit({ items: [item()] })
  const ids = (await rows('select id from accepted.job where parent = $1 order by id desc', batch.id)).map(
    ({ id }) => id,
  )
  const pages: string[][] = []
  for (let next: string | undefined = `${batch.links.children}&limit=2`; next; ) {
    const { body } = await get(next)
    pages.push(body.value.map(({ id }: { id: string }) => id))
    next = body.nextLink
  }
  t.same(pages, [ids.slice(0, 2), ids.slice(2, 4), ids.slice(4)])
  await rows('select accepted.cancel($1)', ids[1])
  const list = async (query: string, user = 'ann') =>
    (await get(`${batch.links.children}${query}`, { 'x-user': user })).body.value.map(({ id }: { id: string }) => id)
  t.same(await list('&status=canceled'), [ids[1]])
  t.same(await list('&operation=note.move'), [])
  t.same(await list('', 'bob'), [])
  t.same((await get(`${url}/jobs?parent=${ids[0]}`)).body, { value: [] }, 'a job without children')
  t.match(await get(`${url}/jobs?parent=x`), { status: 400, body: { error: { details: [{ pointer: '/parent' }] } } })
})
