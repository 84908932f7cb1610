import t from 'tap'
import { openStream } from './event-stream.ts'
import { nothing, preferencesApplied, serve } from './support.ts'

t.jobs = 4

const service = await serve(t, { apis: 2 })
const { apis } = service
const ann = service.as('ann')

const note = (text: string) => ({ operation: 'note.create', input: { text } })
const sum = (...numbers: number[]) => ({ operation: 'sum', input: { numbers } })
const idle = (text: string) => ({ operation: 'idle', input: { text } })
const steered = { operation: 'steered', input: {} }

t.test('a batch succeeds when all of its jobs have, and its result counts them', async (t) => {
  const onEnd = { operation: 'echo', input: { text: 'the batch has ended' } }
  const batch = await ann.submit('/batches', { items: [note('a'), sum(1, 2)], onEnd })
  const monitor = await ann.ended(batch.id)
  const counts = { total: 2, succeeded: 2, failed: 0, canceled: 0 }
  t.match(monitor, {
    ...{ operation: 'batch', status: 'succeeded', percentComplete: 100, result: counts, children: counts },
  })
  t.same((await ann.get(`/jobs/${batch.id}/result`)).body, counts)
  const { body } = await ann.get(monitor.links.children)
  t.match(body.value, [
    { operation: 'sum', parent: batch.id, status: 'succeeded' },
    { operation: 'note.create', parent: batch.id, status: 'succeeded' },
  ])
  const [following] = (await ann.get('/jobs?operation=echo&limit=1')).body.value
  t.ok(following.id > body.value[0].id && following.parent === undefined)
  t.match(await ann.ended(following.id), { result: onEnd.input })
  const bob = service.as('bob')
  t.same((await bob.get(monitor.links.children)).body.value, [])
  t.equal((await bob.get(`/jobs/${batch.id}`)).status, 404)
})

t.test('a batch fails with children-failed if a job fails, unless it allows failures', async (t) => {
  for (const allowFailures of [false, true]) {
    const { id } = await ann.submit('/batches', { items: [steered, sum(1)], allowFailures })
    const [, failing] = (await ann.get(`/jobs?parent=${id}`)).body.value
    await service.steer(failing.id, { do: 'fail', code: 'no-luck', message: 'No luck' })
    const counts = { total: 2, succeeded: 1, failed: 1, canceled: 0 }
    const monitor = await ann.ended(id)
    t.match(monitor, {
      children: counts,
      ...(allowFailures ? { status: 'succeeded', result: counts } : { error: { code: 'children-failed' } }),
    })
    const result = await ann.get(`/jobs/${id}/result`)
    t.equal(result.status, allowFailures ? 200 : 424)
    t.match(await ann.monitor(failing.id), { error: { code: 'no-luck' } })
    if (allowFailures) continue
    // The problem details say which job has failed, and why.
    const error = { code: 'no-luck', message: 'No luck' }
    const { id: childId, operation, links } = failing
    t.same(result.body.error.details, [{ id: childId, href: links.self, operation, status: 'failed', error }])
    t.match(result.body.job, { children: counts, percentComplete: 50 })
  }
})

t.test('canceling a batch cancels its jobs', async (t) => {
  const batch = await ann.submit('/batches', { items: [steered, idle('a'), idle('b')] })
  const running = (await ann.get(`/jobs?parent=${batch.id}&operation=steered`)).body.value[0]
  await ann.untilJob(running.id, ({ status }) => status === 'running')
  const stream = await openStream(t, batch.links.events, { 'x-user': 'ann' })
  const answer = await ann.post(`/jobs/${batch.id}/cancel`, undefined)
  t.match(answer, { status: 202, body: { cancelRequested: true } })
  t.match(await ann.ended(batch.id), { status: 'canceled', children: { total: 3, canceled: 3 } })
  await stream.end()
  t.match(stream.events().at(-1), { event: 'status', data: { status: 'canceled' } })
  t.equal((await ann.get(`/jobs/${batch.id}/result`)).status, 409)
  const { status, body } = await ann.post(`/jobs/${batch.id}/retry`, undefined)
  t.match({ status, ...body.error }, { status: 409, code: 'job-not-retryable', message: /retry its jobs/ })
})

t.test('Prefer: wait waits for the whole batch', async (t) => {
  const prefer = { prefer: 'wait=30, return=representation' }
  const done = await ann.post('/batches', { items: [sum(1), sum(2)] }, prefer)
  t.match(done, { status: 200, body: { total: 2, succeeded: 2 } })
  t.same(preferencesApplied(done).sort(), ['return=representation', 'wait=30'])
  const pending = await ann.post('/batches', { items: [idle('x')] }, { prefer: 'wait=1' })
  t.match(pending, { status: 202, body: { operation: 'batch', status: 'running' } })
})

t.test('of two batches with one key, one is stored, also by two API processes', async (t) => {
  const cat = service.as('cat')
  const clients = apis.flatMap((one) => [service.as('cat', one), service.as('cat', one)])
  const key = { 'idempotency-key': 'one', 'content-type': 'application/x-ndjson' }
  const body = [idle('a'), idle('b')].map((item) => JSON.stringify(item)).join('\n')
  const answers = await Promise.all(clients.map((client) => client.post('/batches', body, key)))
  t.same(
    answers.map(({ status }) => status),
    clients.map(() => 202),
  )
  t.equal(new Set(answers.map((answer) => answer.body.id)).size, 1)
  t.equal(answers.filter(({ headers }) => headers['idempotent-replayed'] === 'true').length, clients.length - 1)
  t.same(await service.storedBy('cat'), { jobs: 3, keys: 1, notes: 2 })
  const json = { ...key, 'content-type': 'application/json' }
  t.equal((await cat.post('/batches', { items: [idle('a'), idle('b')] }, json)).status, 422, 'another media type')
})

t.test('a batch that fails while it is stored leaves nothing, and its key stays free', async (t) => {
  const eve = service.as('eve')
  const key = { 'idempotency-key': 'k' }
  const failing = await eve.post('/batches', { items: [idle('a'), idle('fails at commit')] }, key)
  t.match(failing, { status: 500, body: { error: { code: 'internal-error' } } })
  t.notMatch(failing.text, 'secret')
  const refused = await eve.post('/batches', { items: [idle('a'), idle('gone')] }, key)
  t.match(refused, { status: 404, body: { error: { code: 'note-gone', details: [{ pointer: '/items/1' }] } } })
  t.same(await service.storedBy('eve'), nothing)
  t.equal((await eve.post('/batches', { items: [idle('a')] }, key)).status, 202)
})

t.test('the route answers only POST, and follows the rules for bodies', async (t) => {
  const got = await ann.get('/batches')
  t.equal(got.status, 405)
  t.equal(got.headers.allow, 'POST, OPTIONS')
  const post = (body: string, headers: Record<string, string>) => ann.post('/batches', body, headers)
  t.equal((await post('x', {})).status, 415)
  t.equal((await post('{}', { 'content-type': 'application/json', 'content-encoding': 'gzip' })).status, 415)
  t.equal((await post('', { 'content-type': 'application/x-ndjson' })).status, 400)
  t.match((await ann.get('/openapi.json')).body.paths['/batches'].post.requestBody.content, {
    ...{ 'application/json': {}, 'application/x-ndjson': {} },
  })
  t.equal((await service.as('nobody').post('/batches', { items: [sum(1)] })).status, 401)
})
