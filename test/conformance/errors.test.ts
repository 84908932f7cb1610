import t from 'tap'
import { failsAtCommit } from './app/operations.ts'
import { type Answer, idAt, serve } from './support.ts'

t.jobs = 4

const service = await serve(t)
const { api } = service
const ann = service.as('ann')
const ops = service.as('ops')

const day = 24 * 60 * 60 * 1000
const asText = (body: string, type: string) =>
  ann.request('/sums', { method: 'POST', body, headers: { 'content-type': type } })

async function expired(): Promise<string> {
  const id = await ann.endedAs('canceled')
  await service.expire(id)
  return id
}

async function reusedKey(): Promise<Answer> {
  const key = { 'idempotency-key': 'reused' }
  await ann.submit('/idle', { text: 'x' }, key)
  return ann.post('/idle', { text: 'y' }, key)
}

async function backlog(): Promise<Answer> {
  for (;;) {
    const answer = await ann.post('/limited', { text: 'x' })
    if (answer.status !== 202) return answer
  }
}

/** Errors of every kind that a client can make the service answer. */
const errors: [string, number, () => Promise<Answer>][] = [
  ['malformed JSON', 400, () => asText('{', 'application/json')],
  ['no body where there must be one', 400, () => asText('', 'application/json')],
  ['an invalid body', 400, () => ann.post('/sums', {})],
  ['an invalid Idempotency-Key', 400, () => ann.post('/idle', { text: 'x' }, { 'idempotency-key': '' })],
  ['no Idempotency-Key where it is required', 400, () => ann.post('/keyed', { text: 'x' })],
  ['no principal, submitting', 401, () => service.as('nobody').post('/sums', { numbers: [] })],
  ['no principal, reading', 401, () => service.as('nobody').get('/jobs')],
  ['no such route', 404, () => ann.get('/nothing/here')],
  ['no such job', 404, () => ann.get(`/jobs/${idAt(Date.now())}`)],
  ['a malformed id', 404, () => ann.get('/jobs/x/result')],
  ['an id that cannot be decoded', 404, () => ann.get('/jobs/%zz')],
  ['an id that is not UTF-8', 404, () => ann.get('/jobs/%ff/result')],
  ['an id with U+0000', 404, () => ann.get('/jobs/%00')],
  ['removing a webhook with U+0000', 404, () => ops.request('/webhooks/%00', { method: 'DELETE' })],
  ['rotating a webhook with U+0000', 404, () => ops.request('/webhooks/%00/rotate', { method: 'POST' })],
  ['events of no such job', 404, () => ann.get(`/jobs/${idAt(Date.now())}/events`)],
  ['a wrong method', 405, () => ann.request('/sums', { method: 'PUT', body: {} })],
  ['an Accept of nothing that there is', 406, () => ann.get('/jobs', { accept: 'image/png' })],
  ['canceling what has ended', 409, async () => ann.post(`/jobs/${await ann.endedAs('succeeded')}/cancel`, undefined)],
  ['retrying what has not failed', 409, async () => ann.post(`/jobs/${await ann.running()}/retry`, undefined)],
  ['the result of a canceled job', 409, async () => ann.get(`/jobs/${await ann.endedAs('canceled')}/result`)],
  ['an expired record', 410, async () => ann.get(`/jobs/${await expired()}`)],
  ['an id older than any record', 410, () => ann.get(`/jobs/${idAt(Date.now() - 400 * day)}`)],
  [
    'an If-Match that does not match',
    412,
    async () => ann.post(`/jobs/${await ann.running()}/cancel`, undefined, { 'if-match': '"0"' }),
  ],
  ['too large a body', 413, () => ann.post('/sums', { numbers: [], label: 'x'.repeat(1024 * 1024) })],
  ['a body that is no JSON by its media type', 415, () => asText('<sum/>', 'application/xml')],
  ['a body without a media type', 415, () => ann.request('/sums', { method: 'POST', body: '{"numbers":[]}' })],
  ['a key that was used for another request', 422, reusedKey],
  ['the result of a failed job', 424, async () => ann.get(`/jobs/${await ann.endedAs('failed')}/result`)],
  ['an error inside', 500, () => ann.post('/notes', { text: failsAtCommit })],
  ['a full backlog', 503, backlog],
]

for (const [what, expected, cause] of errors) {
  t.test(`${what}: ${expected} as problem details`, async (t) => {
    const { status, headers, body } = await cause()
    t.equal(status, expected)
    t.match(headers['content-type'], /^application\/problem\+json\b/)
    for (const member of ['type', 'title', 'detail', 'instance']) {
      t.ok(typeof body[member] === 'string' && body[member] !== '', member)
    }
    t.match(body.error, { code: /^[a-z0-9]+(-[a-z0-9]+)*$/, message: /\w/ })
  })

  t.test(`${what}: the type is a path that the API's own docs serve`, async (t) => {
    const { body } = await cause()
    t.match(body.type, /^\//)
    const page = await ann.get(body.type)
    t.equal(page.status, 200)
    t.match(page.headers['content-type'], /^text\/html\b/)
  })
}

t.test('instance is the path of the request, without its query', async (t) => {
  const { body } = await ann.get('/jobs/x?secret=1')
  t.equal(new URL(body.instance, api.url).pathname, '/jobs/x')
  t.notMatch(body.instance, 'secret')
})

t.test('an error that the operation itself made is problem details with its code', async (t) => {
  const { status, headers, body } = await ann.post('/notes', { text: 'forbidden' })
  t.equal(status, 403)
  t.match(headers['content-type'], /^application\/problem\+json\b/)
  t.match(body, { error: { code: 'note-forbidden', message: 'The note is forbidden' } })
  for (const member of ['type', 'title', 'detail', 'instance']) t.type(body[member], 'string', member)
})

t.test('5xx never shows internals', async (t) => {
  const { status, text } = await ann.post('/notes', { text: failsAtCommit })
  t.equal(status, 500)
  for (const inside of [
    'secret',
    'trigger',
    'select',
    'at_commit',
    'postgres',
    'node_modules',
    '.ts',
    'stack',
    'P0001',
  ]) {
    t.notMatch(text, inside, inside)
  }
})

t.test("the failure of a handler does not show the worker's internals", async (t) => {
  const id = await ann.running()
  const failure = { do: 'throw', message: 'connect postgres://ann:hunter2@db.internal/app' } as const
  await service.steer(id, failure, failure)
  const monitor = await ann.ended(id)
  const { text } = await ann.get(`/jobs/${id}/result`)
  t.notMatch(text, 'hunter2')
  t.notMatch(text, 'handlers.ts')
  t.notMatch(JSON.stringify(monitor), 'hunter2')
})

t.test('a problem is for no cache', async (t) => {
  const { headers } = await ann.get('/jobs/x')
  t.match(headers['cache-control'], /no-store|no-cache/)
})

t.test('401 says how to authenticate (RFC 9110, section 15.5.2)', async (t) => {
  const { headers } = await service.as('nobody').get('/jobs')
  t.ok(headers['www-authenticate'])
})

t.test('codes are a closed, documented list: a code that is none has no page', async (t) => {
  t.equal((await ann.get('/docs/problems/no-such-code')).status, 404)
  t.equal((await ann.get('/docs/problems/constructor')).status, 404)
})
