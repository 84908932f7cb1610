import t, { type Test } from 'tap'
import { failsAtCommit, heldAtCommit } from './app/operations.ts'
import { type Answer, type Client, nothing, pending, type RequestOptions, serve } from './support.ts'

t.jobs = 6

const service = await serve(t, { apis: 2 })
const { apis, pool } = service
const [, otherApi] = apis

let userCount = 0
/** Returns a client whose principal has no keys yet. */
const newClient = (): Client => service.as(`user-${++userCount}`)

const keyed = (key: string | string[]) => ({ 'idempotency-key': key })
const isReplay = (answer: Answer) => answer.headers['idempotent-replayed'] === 'true'

/** Sends a request again while another request with its key takes too long, as a client should. */
async function sendWhileLocked(send: () => Promise<Answer>): Promise<Answer> {
  for (;;) {
    const answer = await send()
    if (answer.body?.error?.code !== 'idempotency-key-locked') return answer
  }
}

/** Sends a request with a JSON text as the body, and with an Idempotency-Key. */
const sendText = (client: Client, path: string, key: string, body: string, options: RequestOptions = {}) =>
  client.request(path, {
    method: 'POST',
    ...options,
    body,
    headers: { 'content-type': 'application/json', ...keyed(key), ...options.headers },
  })

t.test('each request without a key creates a job', async (t) => {
  const ann = newClient()
  const [first, second] = [await ann.post('/idle', { text: 'x' }), await ann.post('/idle', { text: 'x' })]
  t.same([first.status, second.status], [202, 202])
  t.not(first.body.id, second.body.id)
})

t.test('a request without a key gets 400 if the operation requires a key, and nothing is stored', async (t) => {
  const ann = newClient()
  t.equal((await ann.post('/keyed', { text: 'x' })).status, 400)
  t.same(await service.storedBy(ann.name), nothing)
  t.equal((await ann.post('/keyed', { text: 'x' }, keyed('k'))).status, 202)
})

for (const [what, value] of Object.entries({
  empty: '',
  'an empty structured string': '""',
  blank: ' ',
  'longer than 255 characters': 'k'.repeat(256),
  'a structured string longer than 255 characters': `"${'k'.repeat(256)}"`,
  'not ASCII': 'caf\u00e9',
  'not printable': 'a\tb',
  'sent twice with the same value': ['k', 'k'],
  'sent twice with different values': ['k', 'l'],
})) {
  t.test(`a request with a key that is ${what} gets 400, and nothing is stored`, async (t) => {
    const ann = newClient()
    t.equal((await ann.post('/idle', { text: 'x' }, keyed(value))).status, 400)
    t.same(await service.storedBy(ann.name), nothing)
  })
}

for (const [what, value] of Object.entries({
  'of one character': 'k',
  'of 255 characters': 'k'.repeat(255),
  'that is a structured string of 255 characters': `"${'k'.repeat(255)}"`,
  'that is a UUID': '8e03978e-40d5-43dd-bc93-6894a57f9324',
  'with every kind of printable ASCII': "!#$%&'*+-.^_`|~ 09 AZ az ()<>@:;[]?={}/",
})) {
  t.test(`a key ${what} is valid`, async (t) => {
    const ann = newClient()
    const first = await ann.post('/idle', { text: 'x' }, keyed(value))
    const second = await ann.post('/idle', { text: 'x' }, keyed(value))
    t.same([first.status, second.status], [202, 202])
    t.equal(second.body.id, first.body.id)
  })
}

t.test('the header values "abc" and abc are the same key', async (t) => {
  const ann = newClient()
  const structured = await ann.post('/idle', { text: 'x' }, keyed('"abc"'))
  const bare = await ann.post('/idle', { text: 'x' }, keyed('abc'))
  t.ok(isReplay(bare))
  t.equal(bare.body.id, structured.body.id)
})

t.test('keys are case-sensitive', async (t) => {
  const ann = newClient()
  const lower = await ann.post('/idle', { text: 'x' }, keyed('abc'))
  const upper = await ann.post('/idle', { text: 'x' }, keyed('ABC'))
  t.not(upper.body.id, lower.body.id)
})

t.test('the first response for a key does not have the header Idempotent-Replayed', async (t) => {
  const { headers } = await newClient().post('/idle', { text: 'x' }, keyed('k'))
  t.equal(headers['idempotent-replayed'], undefined)
})

t.test('a replay for a queued job gets 202 with the current monitor of the job and all headers', async (t) => {
  const ann = newClient()
  const first = await ann.post('/idle', { text: 'x' }, keyed('k'))
  const second = await ann.post('/idle', { text: 'x' }, keyed('k'))
  t.equal(second.status, 202)
  t.ok(isReplay(second))
  t.same(second.body, first.body)
  for (const name of ['operation-location', 'content-location', 'location', 'cache-control']) {
    t.equal(second.headers[name], first.headers[name], name)
  }
})

t.test('a replay for a running job gets 202 with the current monitor of the job', async (t) => {
  const ann = newClient()
  const id = await ann.running({ label: 'x' }, keyed('k'))
  await service.steer(id, { do: 'progress', percent: 40, message: 'half way' })
  await ann.untilJob(id, ({ percentComplete }) => percentComplete === 40)
  const answer = await ann.post('/steered', { label: 'x' }, keyed('k'))
  t.equal(answer.status, 202)
  t.ok(isReplay(answer))
  t.match(answer.body, { id, status: 'running', percentComplete: 40, message: 'half way' })
})

for (const [jobStatus, action] of [
  ['succeeded', { do: 'succeed' }],
  ['failed', { do: 'fail', code: 'no-luck', message: 'No luck', status: 409 }],
] as const) {
  t.test(`a replay for a ${jobStatus} job gets 202 with the current monitor of the job`, async (t) => {
    const ann = newClient()
    const id = await ann.running({}, keyed('k'))
    await service.steer(id, action)
    const ended = await ann.ended(id)
    const answer = await ann.post('/steered', {}, keyed('k'))
    t.equal(answer.status, 202)
    t.ok(isReplay(answer))
    t.same(answer.body, ended)
    t.equal(ended.status, jobStatus)
  })
}

t.test('a replay for a canceled job gets 202 with the current monitor of the job', async (t) => {
  const ann = newClient()
  const { id } = await ann.submit('/idle', { text: 'x' }, keyed('k'))
  await ann.post(`/jobs/${id}/cancel`, undefined)
  const answer = await ann.post('/idle', { text: 'x' }, keyed('k'))
  t.equal(answer.status, 202)
  t.ok(isReplay(answer))
  t.match(answer.body, { id, status: 'canceled' })
})

t.test('a replay stores nothing and does not call accept again', async (t) => {
  const ann = newClient()
  await ann.post('/notes', { text: 'once' }, keyed('k'))
  await ann.post('/notes', { text: 'once' }, keyed('k'))
  t.same(await service.storedBy(ann.name), { jobs: 1, keys: 1, notes: 1 })
})

// Each of these requests differs from the first request, but has the same fingerprint.
for (const [what, body, headers] of [
  ['the order of members', '{"more": {"b": 2, "a": 1}, "text": "x"}', {}],
  ['white space', '{ "text" : "x",\n "more":{"a":1,"b":2}}', {}],
  ['the notation of a number', '{"text": "x", "more": {"a": 1.0, "b": 2e0}}', {}],
  ['escapes of characters', '{"\\u0074ext": "\\u0078", "more": {"a": 1, "b": 2}}', {}],
  ['Prefer', '{"text": "x", "more": {"a": 1, "b": 2}}', { prefer: 'return=minimal' }],
  [
    'traceparent',
    '{"text": "x", "more": {"a": 1, "b": 2}}',
    { traceparent: `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01` },
  ],
  ['tracestate', '{"text": "x", "more": {"a": 1, "b": 2}}', { tracestate: 'a=b' }],
  ['Authorization', '{"text": "x", "more": {"a": 1, "b": 2}}', { authorization: 'Bearer another' }],
  ['User-Agent', '{"text": "x", "more": {"a": 1, "b": 2}}', { 'user-agent': 'another' }],
] as [string, string, Record<string, string>][]) {
  t.test(`the fingerprint does not depend on ${what}`, async (t) => {
    const ann = newClient()
    const first = await ann.post('/echoes', { text: 'x', more: { a: 1, b: 2 } }, keyed('k'))
    const second = await sendText(ann, '/echoes', 'k', body, { headers })
    t.equal(second.status, 202)
    t.ok(isReplay(second))
    t.equal(second.headers['operation-location'], first.headers['operation-location'])
  })
}

t.test('the fingerprint does not depend on the order of query parameters', async (t) => {
  const ann = newClient()
  const first = await ann.post('/idle?a=1&b=2', { text: 'x' }, keyed('k'))
  const second = await ann.post('/idle?b=2&a=1', { text: 'x' }, keyed('k'))
  t.equal(second.status, 202)
  t.equal(second.body.id, first.body.id)
})

for (const [one, other] of [
  ['a=1?x', 'a=1?y'],
  ['a=%ff', 'a=%fe'],
  ['a=%2', 'a=%252'],
  ['a=1&a=2', 'a=2&a=1'],
  ['a=1&b=2', 'a=1%26b=2'],
]) {
  t.test(`a request with ?${other} gets 422 if an earlier request with ?${one} has the same key`, async (t) => {
    const ann = newClient()
    t.equal((await ann.post(`/idle?${one}`, { text: 'x' }, keyed('k'))).status, 202)
    t.equal((await ann.post(`/idle?${other}`, { text: 'x' }, keyed('k'))).status, 422)
    t.equal((await ann.post(`/idle?${one}`, { text: 'x' }, keyed('k'))).status, 202)
  })
}

for (const [what, body, pointer] of [
  ['a repeated member', '{"text":"x","text":"y"}', '/text'],
  ['a repeated member whose name is escaped', '{"text":"x","\\u0074ext":"x"}', '/text'],
  ['a repeated member at depth', '{"a":[{"b":{"c/d":1,"c/d":1}}]}', '/a/0/b/c~1d'],
  ['a number that is too long for a double', '{"a":9007199254740993}', '/a'],
  ['a fraction that is too long for a double', '{"a":[1,0.12345678901234567890]}', '/a/1'],
  ['a number that is too large for a double', '{"a":1e400}', '/a'],
  ['a number that is too small for a double', '{"a":0.1e-400}', '/a'],
] as const) {
  t.test(`a body with ${what} gets 400 with a pointer, and the key is not used`, async (t) => {
    const user = service.as(`ambiguous ${what}`)
    const { status, body: problem } = await sendText(user, '/echoes', 'k', body)
    t.equal(status, 400)
    t.equal(problem.error.code, 'invalid-body')
    t.same(
      problem.error.details.map((detail: { pointer: string }) => detail.pointer),
      [pointer],
    )
    t.same(await service.storedBy(user.name), nothing)
    t.equal((await sendText(user, '/echoes', 'k', '{"a":1}')).status, 202)
  })
}

t.test('numbers that are written differently but have the same value are the same body', async (t) => {
  const val = service.as('val')
  const first = await sendText(val, '/echoes', 'k', '{"a":[0.1,1.0,1e2,-0,12345678901234567000]}')
  t.equal(first.status, 202)
  const second = await sendText(val, '/echoes', 'k', '{"a":[1e-1,1,100,0,1.2345678901234567e19]}')
  t.equal(second.body.id, first.body.id)
  t.same((await val.ended(first.body.id)).result, { a: [0.1, 1, 100, 0, 12345678901234567000] })
})

for (const [what, path, body, method] of [
  ['another body', '/notes/1', { text: 'y' }, 'PUT'],
  ['a body with one more member', '/echoes', { text: 'x', more: null }, 'POST'],
  ['another route', '/notes', { text: 'x' }, 'POST'],
  ['another path of the same route', '/notes/2', { text: 'x' }, 'PUT'],
  ['another method', '/notes/1', { text: 'x' }, 'PATCH'],
  ['another query', '/notes/1?a=1', { text: 'x' }, 'PUT'],
] as const) {
  t.test(`a second request with the same key and ${what} gets 422, and stores nothing`, async (t) => {
    const ann = newClient()
    const firstPath = path === '/echoes' ? path : '/notes/1'
    const first = await ann.request(firstPath, {
      method: path === '/echoes' ? 'POST' : 'PUT',
      body: { text: 'x' },
      headers: keyed('k'),
    })
    t.equal(first.status, 202)
    const before = await service.storedBy(ann.name)
    t.equal((await ann.request(path, { method, body, headers: keyed('k') })).status, 422)
    t.same(await service.storedBy(ann.name), before)
  })
}

t.test('a second request with the same key and a list in another order gets 422', async (t) => {
  const ann = newClient()
  await ann.post('/sums', { numbers: [1, 2] }, keyed('k'))
  t.equal((await ann.post('/sums', { numbers: [2, 1] }, keyed('k'))).status, 422)
})

t.test('two principals can use the same key independently', async (t) => {
  const [ann, bob] = [newClient(), newClient()]
  const first = await ann.post('/idle', { text: 'x' }, keyed('k'))
  const second = await bob.post('/idle', { text: 'another' }, keyed('k'))
  t.same([first.status, second.status], [202, 202])
  t.notOk(isReplay(second))
  t.not(second.body.id, first.body.id)
})

/** Requests that are refused or rolled back: the reason, the expected status and the request. */
const refusals: [string, number, (client: Client) => Promise<Answer>][] = [
  ['is refused because of its invalid body', 400, (client) => client.post('/notes', { text: 1 }, keyed('k'))],
  ['is refused because of malformed JSON', 400, (client) => sendText(client, '/notes', 'k', '{')],
  ['is refused by the operation', 403, (client) => client.post('/notes', { text: 'forbidden' }, keyed('k'))],
  [
    'is refused because of its Accept header',
    406,
    (client) => client.post('/notes', { text: 'x' }, { ...keyed('k'), accept: 'image/png' }),
  ],
  [
    'is refused because of its size',
    413,
    (client) => client.post('/notes', { text: 'x'.repeat(1024 * 1024) }, keyed('k')),
  ],
  [
    'is refused because of its media type',
    415,
    (client) => sendText(client, '/notes', 'k', 'x', { headers: { 'content-type': 'text/plain' } }),
  ],
  ['is rolled back', 500, (client) => client.post('/notes', { text: failsAtCommit }, keyed('k'))],
]

for (const [what, expected, refuse] of refusals) {
  t.test(`a request that ${what} (${expected}) does not take its key`, async (t) => {
    const ann = newClient()
    t.equal((await refuse(ann)).status, expected)
    const second = await ann.post('/notes', { text: 'another' }, keyed('k'))
    t.equal(second.status, 202)
    t.notOk(isReplay(second))
    t.same(await service.storedBy(ann.name), { jobs: 1, keys: 1, notes: 1 })
  })
}

t.test('a request that is refused because of a full backlog (503) does not take its key', async (t) => {
  const ann = newClient()
  await ann.submit('/limited', { text: 'fills the backlog' })
  const refused = await (async () => {
    for (let number = 0; ; number++) {
      const answer = await ann.post('/limited', { text: 'too many' }, keyed(`k${number}`))
      if (answer.status === 503) return `k${number}`
    }
  })()
  const second = await ann.post('/idle', { text: 'another' }, keyed(refused))
  t.equal(second.status, 202)
  t.notOk(isReplay(second))
})

t.test('a key expires with the record of its job, and a request with that key then creates a new job', async (t) => {
  const ann = newClient()
  const { id } = await ann.submit('/notes', { text: 'x' }, keyed('k'))
  await ann.ended(id)
  await service.expire(id)
  const body = { text: 'another' }
  const second = await ann.post('/notes', body, keyed('k'))
  t.equal(second.status, 202)
  t.notOk(isReplay(second))
  t.not(second.body.id, id)
  t.match(await ann.ended(second.body.id), { status: 'succeeded' })
  const third = await ann.post('/notes', body, keyed('k'))
  t.ok(isReplay(third))
  t.equal(third.body.id, second.body.id)
})

t.test('if the job of a key was deleted, a request with that key creates a new job', async (t) => {
  const ann = newClient()
  const { id } = await ann.submit('/notes', { text: 'x' }, keyed('k'))
  await ann.ended(id)
  await pool.query('delete from accepted.job where id = $1', [id])
  const second = await ann.post('/notes', { text: 'another' }, keyed('k'))
  t.equal(second.status, 202)
  t.notOk(isReplay(second))
  t.not(second.body.id, id)
})

t.test(
  '50 simultaneous requests with one key to two API processes create one job, and all of them get that job',
  async (t) => {
    const ann = newClient()
    const body = { text: 'once' }
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, n) =>
        sendWhileLocked(() => service.as(ann.name, apis[n % 2]).post('/notes', body, keyed('k'))),
      ),
    )
    t.same(new Set(answers.map(({ status }) => status)), new Set([202]))
    t.equal(new Set(answers.map((answer) => answer.body.id)).size, 1)
    t.equal(answers.filter((answer) => !isReplay(answer)).length, 1, 'exactly one request was not a replay')
    t.same(await service.storedBy(ann.name), { jobs: 1, keys: 1, notes: 1 })
    const id = answers[0]?.body.id
    await ann.ended(id)
    t.equal(await service.effects(id), 1)
  },
)

t.test(
  'if 50 simultaneous requests have one key but different bodies, one request creates a job and 49 get 422',
  async (t) => {
    const ann = newClient()
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, n) =>
        sendWhileLocked(() => service.as(ann.name, apis[n % 2]).post('/notes', { text: `${n}` }, keyed('k'))),
      ),
    )
    t.equal(answers.filter(({ status }) => status === 202).length, 1)
    t.equal(answers.filter(({ status }) => status === 422).length, 49)
    t.same(await service.storedBy(ann.name), { jobs: 1, keys: 1, notes: 1 })
  },
)

/** Blocks the commit of notes with the given text until `release` is called. */
async function holdCommit(t: Test, text: string): Promise<{ isReached(): Promise<boolean>; release(): Promise<void> }> {
  const holder = await pool.connect()
  t.teardown(() => holder.release(true))
  await holder.query('select pg_advisory_lock(hashtext($1))', [text])
  return {
    async isReached() {
      const { rows } = await holder.query(
        `select from pg_locks where locktype = 'advisory' and not granted
          and objid::bigint = hashtext($1)::bigint & x'ffffffff'::bigint`,
        [text],
      )
      return rows.length > 0
    },
    async release() {
      await holder.query('select pg_advisory_unlock_all()')
    },
  }
}

/** Returns whether a transaction waits for an advisory lock other than the lock that blocks the commit. */
async function isKeyLockAwaited(text: string): Promise<boolean> {
  const { rows } = await pool.query(
    `select from pg_locks join pg_database d on d.oid = database
      where datname = current_database() and locktype = 'advisory' and not granted
        and objid::bigint <> hashtext($1)::bigint & x'ffffffff'::bigint`,
    [text],
  )
  return rows.length > 0
}

// These tests run one at a time. Otherwise a request of another test could be in the transaction that is blocked.
const serial = { buffered: false }

t.test(
  'a second request with the same key waits until the first request commits, and is then answered as a replay',
  serial,
  async (t) => {
    const ann = newClient()
    const body = { text: `${heldAtCommit}: waits` }
    const held = await holdCommit(t, body.text)
    const first = pending(ann.post('/notes', body, keyed('k')))
    while (!(await held.isReached()));
    const second = pending(service.as(ann.name, otherApi).post('/notes', body, keyed('k')))
    // During this request, a faulty process would already answer the second request.
    await service.as(ann.name, otherApi).submit('/idle', { text: 'x' })
    t.notOk(second.isSettled())
    await held.release()
    const [one, two] = [await first.result(), await second.result()]
    t.same([one.status, two.status], [202, 202])
    t.equal(two.body.id, one.body.id)
    t.same([isReplay(one), isReplay(two)], [false, true])
  },
)

t.test('many requests can wait for a key without delaying other requests', serial, async (t) => {
  const ann = newClient()
  const body = { text: `${heldAtCommit}: many` }
  const held = await holdCommit(t, body.text)
  const first = pending(ann.post('/notes', body, keyed('k')))
  while (!(await held.isReached()));
  // These are more requests than the pool has connections.
  const others = Array.from({ length: 40 }, () => pending(ann.post('/notes', body, keyed('k'))))
  for (let number = 0; number < 5; number++) t.equal((await newClient().get('/jobs')).status, 200)
  t.notOk(others.some((other) => other.isSettled()))
  await held.release()
  const { id } = (await first.result()).body
  for (const other of others) {
    const answer = await other.result()
    t.equal(answer.status, 202)
    t.equal(answer.body.id, id)
  }
})

t.test('if many requests wait for a key longer than the lock timeout, all of them get 409', serial, async (t) => {
  const ann = newClient()
  const body = { text: `${heldAtCommit}: many, too long` }
  const held = await holdCommit(t, body.text)
  const first = pending(ann.post('/notes', body, keyed('k')))
  while (!(await held.isReached()));
  const others = Array.from({ length: 30 }, (_, number) =>
    pending(service.as(ann.name, apis[number % 2]).post('/notes', body, keyed('k'))),
  )
  for (const other of others) t.equal((await other.result()).status, 409)
  await held.release()
  t.equal((await first.result()).status, 202)
})

t.test('a request that waits for a key longer than the lock timeout gets 409 with Retry-After', serial, async (t) => {
  const ann = newClient()
  const body = { text: `${heldAtCommit}: past the timeout` }
  const held = await holdCommit(t, body.text)
  const first = pending(ann.post('/notes', body, keyed('k')))
  while (!(await held.isReached()));
  const second = await pending(service.as(ann.name, otherApi).post('/notes', body, keyed('k'))).result()
  t.equal(second.status, 409)
  t.match(second.headers['retry-after'], /^[1-9]\d*$/)
  t.notOk(first.isSettled())
  await held.release()
  t.equal((await first.result()).status, 202)
  const third = await ann.post('/notes', body, keyed('k'))
  t.ok(isReplay(third))
  t.equal(third.body.id, (await first.result()).body.id)
})

t.test('a request with another key does not wait for the blocked request', serial, async (t) => {
  const ann = newClient()
  const body = { text: `${heldAtCommit}: alone` }
  const held = await holdCommit(t, body.text)
  const first = pending(ann.post('/notes', body, keyed('k')))
  while (!(await held.isReached()));
  const other = await service.as(ann.name, otherApi).post('/idle', { text: 'x' }, keyed('l'))
  t.equal(other.status, 202)
  t.notOk(first.isSettled())
  await held.release()
  t.equal((await first.result()).status, 202)
})

t.test('if the first request is rolled back, the second request takes the key', serial, async (t) => {
  const ann = newClient()
  const body = { text: `${heldAtCommit}: rolled back` }
  const held = await holdCommit(t, body.text)
  const first = pending(ann.post('/notes', body, keyed('k')))
  while (!(await held.isReached()));
  const second = pending(service.as(ann.name, otherApi).post('/quiet', {}, keyed('k')))
  // Without this loop, the first request could lock the key again before the second request waits for the key.
  while (!(await isKeyLockAwaited(body.text)));
  await pool.query(
    `select pg_cancel_backend(pid) from pg_locks where locktype = 'advisory' and not granted
      and objid::bigint = hashtext($1)::bigint & x'ffffffff'::bigint`,
    [body.text],
  )
  const one = await first.result()
  await held.release()
  const two = await second.result()
  // The API retried the first request after its rollback. By then, the second request had taken the key.
  t.equal(one.status, 422)
  t.equal(two.status, 202)
  t.notOk(isReplay(two))
})
