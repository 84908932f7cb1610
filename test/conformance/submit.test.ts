import t from 'tap'
import { claimed, failsAtCommit, heldAtCommit } from './app/operations.ts'
import { type Answer, membersNamed, nothing, pending, serve } from './support.ts'

t.jobs = 4

const service = await serve(t)
const { api, pool } = service

const uuid7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

for (const [method, path] of [
  ['POST', '/notes'],
  ['PUT', '/notes/1'],
  ['PATCH', '/notes/1'],
  ['DELETE', '/notes/1'],
] as const) {
  t.test(`a ${method} request to the route of an operation gets 202`, async (t) => {
    const ann = service.as('ann')
    const { status, body } = await ann.request(path, { method, body: { text: 'x' } })
    t.equal(status, 202)
    t.match(body.id, uuid7)
    t.match(await ann.ended(body.id), { status: 'succeeded' })
  })
}

t.test('a DELETE without a body is accepted, with or without a Content-Type', async (t) => {
  const ann = service.as('ann')
  for (const headers of [{}, { 'content-type': 'application/json' }]) {
    const { status } = await ann.request('/drafts/1', { method: 'DELETE', headers })
    t.equal(status, 202)
  }
  t.equal((await ann.request('/drafts/1', { method: 'DELETE', body: { text: 1 } })).status, 400)
})

t.test('the body of a 202 is the monitor', async (t) => {
  const ann = service.as('ann')
  const { body } = await ann.post('/idle', { text: 'x' })
  t.match(body, { operation: 'idle', status: 'queued', attempt: 0 })
  t.same(body, await ann.monitor(body.id))
})

t.test('the media type of a 202 is JSON', async (t) => {
  const { headers } = await service.as('ann').post('/idle', { text: 'x' })
  t.match(headers['content-type'], /^application\/json\b/)
})

t.test('Operation-Location of a 202 is the absolute URL of the monitor', async (t) => {
  const { headers, body } = await service.as('ann').post('/idle', { text: 'x' })
  t.equal(headers['operation-location'], `${api.url}/jobs/${body.id}`)
})

t.test('Content-Location of a 202 is the absolute URL of the monitor', async (t) => {
  const { headers, body } = await service.as('ann').post('/idle', { text: 'x' })
  t.equal(headers['content-location'], `${api.url}/jobs/${body.id}`)
})

t.test('Location of a 202 is the absolute URL of the result', async (t) => {
  const { headers, body } = await service.as('ann').post('/idle', { text: 'x' })
  t.equal(headers.location, `${api.url}/jobs/${body.id}/result`)
})

t.test('a 202 has a Retry-After of at least 1 second', async (t) => {
  const { headers } = await service.as('ann').post('/idle', { text: 'x' })
  t.match(headers['retry-after'], /^[1-9]\d*$/)
})

t.test('a 202 has Cache-Control: no-store', async (t) => {
  const { headers } = await service.as('ann').post('/idle', { text: 'x' })
  t.equal(headers['cache-control'], 'no-store')
})

t.test('links start with the origin that the client called', async (t) => {
  const { host } = new URL(api.url)
  const called = `localhost:${host.split(':')[1]}`
  const { headers } = await service.as('ann').post('/idle', { text: 'x' }, { host: called })
  t.equal(new URL(headers['operation-location'] as string).host, called)
  t.equal(new URL(headers.location as string).host, called)
})

t.test('a request is not answered before COMMIT has returned', async (t) => {
  const text = `${heldAtCommit}: not answered yet`
  const holder = await pool.connect()
  await holder.query('select pg_advisory_lock(hashtext($1))', [text])
  const answer = pending(service.as('ann').post('/notes', { text }))
  const isCommitting = async () => {
    const { rows } = await holder.query(`
      select from pg_locks where locktype = 'advisory' and not granted and database = (
        select oid from pg_database where datname = current_database())`)
    return rows.length > 0
  }
  try {
    while (!answer.isSettled() && !(await isCommitting()));
    t.notOk(answer.isSettled(), 'the request waits for its COMMIT')
  } finally {
    await holder.query('select pg_advisory_unlock_all()')
    holder.release()
  }
  t.equal((await answer.result()).status, 202)
})

t.test(
  'after a 202, the domain row, the job, its key and its queue row are visible to other connections',
  async (t) => {
    const cleo = service.as('cleo')
    const { body } = await cleo.post('/idle', { text: 'x' }, { 'idempotency-key': 'k' })
    t.same(await service.storedBy('cleo'), { jobs: 1, keys: 1, notes: 1 })
    const { rows } = await pool.query('select name from accepted_queue.job where id = $1', [body.id])
    t.same(rows, [{ name: 'idle' }])
  },
)

t.test('the domain row, the job, its key and its queue row are written by one transaction', async (t) => {
  const dora = service.as('dora')
  const { body } = await dora.post('/idle', { text: 'x' }, { 'idempotency-key': 'k' })
  const { rows } = await pool.query(
    `select xmin::text from note where id = $1
     union select xmin::text from accepted.job where id = $1
     union select xmin::text from accepted_queue.job where id = $1
     union select xmin::text from accepted.idempotency_key where job_id = $1`,
    [body.id],
  )
  t.equal(rows.length, 1)
})

t.test('a request whose commit fails gets 500 and stores nothing', async (t) => {
  const eve = service.as('eve')
  const { status } = await eve.post('/notes', { text: failsAtCommit }, { 'idempotency-key': 'k' })
  t.equal(status, 500)
  t.same(await service.storedBy('eve'), nothing)
})

t.test('authentication comes first: an unknown caller gets 401 even if the body is invalid or too large', async (t) => {
  const { status } = await service.as('nobody').post('/sums', { numbers: 'none' })
  t.equal(status, 401)
  const large = await service.as('nobody').post('/sums', { numbers: [], label: 'x'.repeat(1024 * 1024) })
  t.equal(large.status, 401)
})

t.test('the body limit is checked before the body is validated', async (t) => {
  const { status } = await service.as('ann').post('/sums', { numbers: 'x'.repeat(1024 * 1024) })
  t.equal(status, 413)
})

/** Requests that are refused: the reason, the expected status and the request. */
const refused: [string, number, (user: string) => Promise<Answer>][] = [
  ['is not JSON', 400, (user) => postText(user, '{"text": ')],
  ['does not match the schema', 400, (user) => post(user, { text: 1 })],
  ['has no known principal', 401, () => post('nobody', { text: 'x' })],
  ['the operation refuses with 403', 403, (user) => post(user, { text: 'forbidden' })],
  ['the operation refuses with another 4xx', 404, (user) => post(user, { text: 'gone' })],
  ['does not accept JSON', 406, (user) => post(user, { text: 'x' }, { accept: 'text/csv' })],
  ['has a body that is too large', 413, (user) => post(user, { text: 'x'.repeat(1024 * 1024) })],
  ['has a body whose media type is not JSON', 415, (user) => postText(user, 'text=x', 'text/plain')],
]

const post = (user: string, body: unknown, headers = {}) =>
  service.as(user).post('/notes', body, { 'idempotency-key': 'k', ...headers })
const postText = (user: string, body: string, type = 'application/json') =>
  service
    .as(user)
    .request('/notes', { method: 'POST', body, headers: { 'content-type': type, 'idempotency-key': 'k' } })

for (const [index, [what, expected, request]] of refused.entries()) {
  t.test(`a request that ${what} gets ${expected}, and nothing is stored`, async (t) => {
    const user = `refused-${index}`
    const { status, headers } = await request(user)
    t.equal(status, expected)
    t.equal(headers['operation-location'], undefined)
    t.same(await service.storedBy(user), nothing)
    t.same(await service.storedBy('nobody'), nothing)
  })
}

t.test('a refused request inserts no row into the queue', async (t) => {
  const { status } = await service.as('fred').post('/notes', { text: 'forbidden' })
  t.equal(status, 403)
  const { rows } = await pool.query(
    `select id from accepted_queue.job q where name = any($1)
      and not exists (select from accepted.job j where j.id = q.id)`,
    [claimed.split(',')],
  )
  t.same(rows, [])
})

t.test('a 400 lists every violation with a JSON pointer', async (t) => {
  const { status, body } = await service.as('ann').post('/sums', {
    numbers: [1, 'two', 3, 4.5],
    'in/words': 'yes',
    label: 7,
  })
  t.equal(status, 400)
  const pointers = membersNamed('pointer', body)
  for (const pointer of ['/numbers/1', '/numbers/3', '/in~1words', '/label']) t.ok(pointers.includes(pointer), pointer)
})

t.test('a 400 contains the name of a missing member', async (t) => {
  const { status, body } = await service.as('ann').post('/sums', {})
  t.equal(status, 400)
  t.ok(membersNamed('pointer', body).length > 0)
  t.match(JSON.stringify(body), /numbers/)
})

for (const [what, body] of [
  ['a string is not an integer', { numbers: ['1'] }],
  ['a boolean is not an integer', { numbers: [true] }],
  ['null is not an integer', { numbers: [null] }],
  ['a single value is not a list', { numbers: 1 }],
  ['a string is not a boolean', { numbers: [], 'in/words': 'true' }],
  ['an integer is not a boolean', { numbers: [], 'in/words': 1 }],
  ['an integer is not a string', { numbers: [], label: 1 }],
  ['null is not an absent member', { numbers: [], label: null }],
] as const) {
  t.test(`types are not coerced: ${what}`, async (t) => {
    t.equal((await service.as('ann').post('/sums', body)).status, 400)
  })
}

t.test('a request with a member that the schema forbids gets 400; the member is not silently removed', async (t) => {
  const { status, body } = await service.as('ann').post('/sums', { numbers: [], surplus: 1 })
  t.equal(status, 400)
  t.match(JSON.stringify(body), /surplus/)
})

t.test('if the schema allows additional members, the handler receives them', async (t) => {
  const ann = service.as('ann')
  const sent = { text: 'x', more: { deep: [1, null, false, 'y', 1.5, {}] }, '': 'no name', constructor: 'a word' }
  const { id } = await ann.submit('/echoes', sent)
  t.same((await ann.ended(id)).result, sent)
})

for (const [what, json] of [
  ['\\u0000 in a value', '{"text": "a\\u0000b"}'],
  ['\\u0000 deep in a value', '{"more": [{"deep": "\\u0000"}]}'],
  ['\\u0000 in a name', '{"a\\u0000b": 1}'],
  ['a lone high surrogate', '{"text": "a\\ud800b"}'],
  ['a lone low surrogate', '{"text": "a\\udc00b"}'],
  ['surrogates in the wrong order', '{"text": "\\udc00\\ud800"}'],
  ['a lone surrogate in a name', '{"a\\ud800": 1}'],
] as const) {
  t.test(`a request whose body has ${what} gets 400`, async (t) => {
    const user = `surrogate ${what.length}`
    const headers = { 'content-type': 'application/json' }
    const { status } = await service.as(user).request('/echoes', { method: 'POST', body: json, headers })
    t.equal(status, 400)
    t.same(await service.storedBy(user), nothing)
  })
}

t.test('a 400 lists up to 100 values that cannot be stored, in the order in which they are in the body', async (t) => {
  const pointersOf = async (body: unknown) => {
    const answer = await service.as('ann').post('/sums', body)
    t.equal(answer.status, 400)
    return answer.body.error.details.map(({ pointer }: { pointer: string }) => pointer)
  }
  t.same(await pointersOf({ numbers: ['a\0', 'b', 'c\0'], 'x/y': { z: '\0' }, w: { '\0': 1 } }), [
    ...['/numbers/0', '/numbers/2', '/x~1y/z', '/w'],
  ])
  t.equal((await pointersOf({ numbers: Array(1_000).fill('\0') })).length, 100)
})

t.test('a body with a valid surrogate pair is accepted', async (t) => {
  const ann = service.as('ann')
  const headers = { 'content-type': 'application/json' }
  const { body } = await ann.request('/echoes', { method: 'POST', body: '{"text": "\\ud83d\\ude00"}', headers })
  t.same((await ann.ended(body.id)).result, { text: '😀' })
})
