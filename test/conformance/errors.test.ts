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

async function createExpired(): Promise<string> {
  const id = await ann.endedAs('canceled')
  await service.expire(id)
  return id
}

async function reuseKey(): Promise<Answer> {
  const key = { 'idempotency-key': 'reused' }
  await ann.submit('/idle', { text: 'x' }, key)
  return ann.post('/idle', { text: 'y' }, key)
}

async function fillBacklog(): Promise<Answer> {
  for (;;) {
    const answer = await ann.post('/limited', { text: 'x' })
    if (answer.status !== 202) return answer
  }
}

/** Each kind of error: its description, the expected status, and a request that causes it. */
const errors: [string, number, () => Promise<Answer>][] = [
  ['malformed JSON', 400, () => asText('{', 'application/json')],
  ['a missing body', 400, () => asText('', 'application/json')],
  ['an invalid body', 400, () => ann.post('/sums', {})],
  ['an invalid Idempotency-Key', 400, () => ann.post('/idle', { text: 'x' }, { 'idempotency-key': '' })],
  ['a missing Idempotency-Key on a route that requires it', 400, () => ann.post('/keyed', { text: 'x' })],
  ['submitting without a principal', 401, () => service.as('nobody').post('/sums', { numbers: [] })],
  ['reading without a principal', 401, () => service.as('nobody').get('/jobs')],
  ['an unknown route', 404, () => ann.get('/nothing/here')],
  ['an unknown job', 404, () => ann.get(`/jobs/${idAt(Date.now())}`)],
  ['a malformed id', 404, () => ann.get('/jobs/x/result')],
  ['an id that cannot be decoded', 404, () => ann.get('/jobs/%zz')],
  ['an id that is not UTF-8', 404, () => ann.get('/jobs/%ff/result')],
  ['an id with U+0000', 404, () => ann.get('/jobs/%00')],
  ['removing a webhook whose id contains U+0000', 404, () => ops.request('/webhooks/%00', { method: 'DELETE' })],
  [
    'rotating the secret of a webhook whose id contains U+0000',
    404,
    () => ops.request('/webhooks/%00/rotate', { method: 'POST' }),
  ],
  ['the events of an unknown job', 404, () => ann.get(`/jobs/${idAt(Date.now())}/events`)],
  ['a method that the route does not support', 405, () => ann.request('/sums', { method: 'PUT', body: {} })],
  ['an Accept header that matches no representation', 406, () => ann.get('/jobs', { accept: 'image/png' })],
  [
    'canceling a job that has ended',
    409,
    async () => ann.post(`/jobs/${await ann.endedAs('succeeded')}/cancel`, undefined),
  ],
  ['retrying a job that has not failed', 409, async () => ann.post(`/jobs/${await ann.running()}/retry`, undefined)],
  ['the result of a canceled job', 409, async () => ann.get(`/jobs/${await ann.endedAs('canceled')}/result`)],
  ['a job whose record has expired', 410, async () => ann.get(`/jobs/${await createExpired()}`)],
  ['an id that is older than any record can be', 410, () => ann.get(`/jobs/${idAt(Date.now() - 400 * day)}`)],
  [
    'an If-Match header that does not match',
    412,
    async () => ann.post(`/jobs/${await ann.running()}/cancel`, undefined, { 'if-match': '"0"' }),
  ],
  ['a body that is too large', 413, () => ann.post('/sums', { numbers: [], label: 'x'.repeat(1024 * 1024) })],
  ['a body whose media type is not JSON', 415, () => asText('<sum/>', 'application/xml')],
  ['a body without a media type', 415, () => ann.request('/sums', { method: 'POST', body: '{"numbers":[]}' })],
  ['a key that was used for another request', 422, reuseKey],
  ['the result of a failed job', 424, async () => ann.get(`/jobs/${await ann.endedAs('failed')}/result`)],
  ['an internal error', 500, () => ann.post('/notes', { text: failsAtCommit })],
  ['a full backlog', 503, fillBacklog],
]

for (const [what, expected, cause] of errors) {
  t.test(`${what} gets ${expected} with problem details`, async (t) => {
    const { status, headers, body } = await cause()
    t.equal(status, expected)
    t.match(headers['content-type'], /^application\/problem\+json\b/)
    for (const member of ['type', 'title', 'detail', 'instance']) {
      t.ok(typeof body[member] === 'string' && body[member] !== '', member)
    }
    t.match(body.error, { code: /^[a-z0-9]+(-[a-z0-9]+)*$/, message: /\w/ })
  })

  t.test(`in the problem details for ${what}, type is the path of a page`, async (t) => {
    const { body } = await cause()
    t.match(body.type, /^\//)
    const page = await ann.get(body.type)
    t.equal(page.status, 200)
    t.match(page.headers['content-type'], /^text\/html\b/)
  })
}

t.test('in problem details, instance is the path of the request without the query', async (t) => {
  const { body } = await ann.get('/jobs/x?secret=1')
  t.equal(new URL(body.instance, api.url).pathname, '/jobs/x')
  t.notMatch(body.instance, 'secret')
})

t.test('if the operation refuses a request, the problem details contain the code of the refusal', async (t) => {
  const { status, headers, body } = await ann.post('/notes', { text: 'forbidden' })
  t.equal(status, 403)
  t.match(headers['content-type'], /^application\/problem\+json\b/)
  t.match(body, { error: { code: 'note-forbidden', message: 'The note is forbidden' } })
  for (const member of ['type', 'title', 'detail', 'instance']) t.type(body[member], 'string', member)
})

t.test('a 5xx response never contains internal details', async (t) => {
  const { status, text } = await ann.post('/notes', { text: failsAtCommit })
  t.equal(status, 500)
  for (const internal of [
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
    t.notMatch(text, internal, internal)
  }
})

t.test('if a handler throws, clients see no password and no stack trace', async (t) => {
  const id = await ann.running()
  const failure = { do: 'throw', message: 'connect postgres://ann:hunter2@db.internal/app' } as const
  await service.steer(id, failure, failure)
  const monitor = await ann.ended(id)
  const { text } = await ann.get(`/jobs/${id}/result`)
  t.notMatch(text, 'hunter2')
  t.notMatch(text, 'handlers.ts')
  t.notMatch(JSON.stringify(monitor), 'hunter2')
})

t.test('problem details are not cached', async (t) => {
  const { headers } = await ann.get('/jobs/x')
  t.match(headers['cache-control'], /no-store|no-cache/)
})

t.test('a 401 has WWW-Authenticate (RFC 9110, section 15.5.2)', async (t) => {
  const { headers } = await service.as('nobody').get('/jobs')
  t.ok(headers['www-authenticate'])
})

t.test('an unknown problem code has no page', async (t) => {
  t.equal((await ann.get('/docs/problems/no-such-code')).status, 404)
  t.equal((await ann.get('/docs/problems/constructor')).status, 404)
})
