import t from 'tap'
import { idAt, pending, serve } from './support.ts'

t.jobs = 4

const service = await serve(t)
const ann = service.as('ann')

/** Creates a job that is queued or running, and returns its result URL. */
async function resultUrlOf(jobStatus: 'queued' | 'running'): Promise<string> {
  const id = jobStatus === 'running' ? await ann.running() : (await ann.submit('/idle', { text: 'x' })).id
  return `${service.api.url}/jobs/${id}/result`
}

for (const jobStatus of ['queued', 'running'] as const) {
  t.test(`the result URL of a ${jobStatus} job answers 202 with the monitor as the body`, async (t) => {
    const result = await resultUrlOf(jobStatus)
    const { status, body } = await ann.get(result)
    t.equal(status, 202)
    t.equal(body.status, jobStatus)
    const { estimatedCompletionAt: _, ...monitor } = await ann.monitor(body.id)
    const { estimatedCompletionAt: __, ...answered } = body
    t.same(answered, monitor)
  })

  t.test(`the result URL of a ${jobStatus} job answers with its own URL in Location`, async (t) => {
    const result = await resultUrlOf(jobStatus)
    t.equal((await ann.get(result)).headers.location, result)
  })

  t.test(`the result URL of a ${jobStatus} job answers with a Retry-After of at least 1 second`, async (t) => {
    t.match((await ann.get(await resultUrlOf(jobStatus))).headers['retry-after'], /^[1-9]\d*$/)
  })
}

t.test('the result URL of a job with a resource redirects to the resource with 303', async (t) => {
  const { id } = await ann.submit('/notes', { text: 'x' })
  await ann.ended(id)
  const { status, headers } = await ann.get(`/jobs/${id}/result`)
  t.equal(status, 303)
  t.equal(headers.location, `${service.api.url}/notes/${id}`)
  t.equal(headers['retry-after'], undefined)
})

t.test('a handler can set the resource of its job', async (t) => {
  const id = await ann.running()
  await service.steer(id, { do: 'set resource', path: '/notes/elsewhere' }, { do: 'succeed' })
  await ann.ended(id)
  const { status, headers } = await ann.get(`/jobs/${id}/result`)
  t.equal(status, 303)
  t.equal(headers.location, `${service.api.url}/notes/elsewhere`)
})

const resources = {
  '/notes/✓': '/notes/%E2%9C%93',
  '/notes/é ü': '/notes/%C3%A9%20%C3%BC',
  '/notes/a\r\nset-cookie: b\t': '/notes/a%0D%0Aset-cookie:%20b%09',
  '/notes/%E2%9C%93?a=%20b&c=1+1': '/notes/%E2%9C%93?a=%20b&c=1+1',
  '/notes/100%': '/notes/100%25',
  '/notes/[1]|"<>': '/notes/%5B1%5D%7C%22%3C%3E',
  '//example.com/x': '//example.com/x',
  'https://bücher.example/✓': 'https://xn--bcher-kva.example/%E2%9C%93',
  'http://[::1]:3000/x': 'http://[::1]:3000/x',
}

for (const [path, expected] of Object.entries(resources)) {
  t.test(`the API sends the resource ${JSON.stringify(path)} as a valid URI`, async (t) => {
    const location = expected.startsWith('/') ? service.api.url + expected : expected
    const key = { 'idempotency-key': expected }
    const id = await ann.running({}, key)
    await service.steer(id, { do: 'set resource', path }, { do: 'succeed' })
    t.equal((await ann.ended(id)).resourceLocation, location)
    const waited = await ann.post('/steered', {}, { ...key, prefer: 'wait=30, return=representation' })
    for (const { status, headers } of [await ann.get(`/jobs/${id}/result`), waited]) {
      t.equal(status, 303)
      t.equal(headers.location, location)
    }
  })
}

t.test('the result URL of a job with an inline result answers 200 with that result', async (t) => {
  const { id } = await ann.submit('/sums', { numbers: [1, 2] })
  await ann.ended(id)
  const { status, headers, body } = await ann.get(`/jobs/${id}/result`)
  t.equal(status, 200)
  t.match(headers['content-type'], /^application\/json\b/)
  t.same(body, { total: 3 })
  t.equal(headers['retry-after'], undefined)
})

for (const value of ['a text', '', 0, false, [1], {}]) {
  t.test(`the inline result ${JSON.stringify(value)} is sent as JSON`, async (t) => {
    const { id } = await ann.submit('/echoes', { only: value })
    t.same((await ann.ended(id)).result, value)
    for (const answer of [
      await ann.get(`/jobs/${id}/result`),
      await ann.post('/echoes', { only: value }, { prefer: 'wait=30, return=representation' }),
    ]) {
      t.equal(answer.status, 200)
      t.match(answer.headers['content-type'], /^application\/json\b/)
      t.equal(answer.text, JSON.stringify(value))
    }
  })
}

t.test('the result URL of a job without a resource or an inline result answers 204', async (t) => {
  const { id } = await ann.submit('/quiet', {})
  await ann.ended(id)
  const { status, text } = await ann.get(`/jobs/${id}/result`)
  t.equal(status, 204)
  t.equal(text, '')
})

t.test('the result URL of a failed job answers with the 4xx status that the handler declared', async (t) => {
  const id = await ann.running()
  await service.steer(id, { do: 'fail', code: 'too-late', message: 'It is too late', status: 422 })
  await ann.ended(id)
  t.equal((await ann.get(`/jobs/${id}/result`)).status, 422)
})

t.test('the result URL of a failed job answers 424 if the handler declared no status', async (t) => {
  const id = await ann.endedAs('failed')
  t.equal((await ann.get(`/jobs/${id}/result`)).status, 424)
})

t.test('the result URL of a job that has used up its attempts answers 424', async (t) => {
  const id = await ann.running()
  await service.steer(id, { do: 'throw', message: 'once' }, { do: 'throw', message: 'twice' })
  await ann.ended(id)
  t.equal((await ann.get(`/jobs/${id}/result`)).status, 424)
})

t.test(
  'the problem details of a failed job have the error as member `error` and the monitor as member `job`',
  async (t) => {
    const id = await ann.running()
    await service.steer(id, { do: 'fail', code: 'no-luck', message: 'No luck', details: [{ row: 1 }] })
    const monitor = await ann.ended(id)
    const { headers, body } = await ann.get(`/jobs/${id}/result`)
    t.match(headers['content-type'], /^application\/problem\+json\b/)
    t.same(body.error, { code: 'no-luck', message: 'No luck', details: [{ row: 1 }] })
    t.same(body.error, monitor.error)
    t.same(body.job, monitor)
  },
)

// The result route also uses these statuses for its own errors.
for (const status of [400, 401, 404, 406, 408, 410, 429, 431]) {
  t.test(`the problem details of a job that failed with ${status} contain the monitor`, async (t) => {
    const id = await ann.running()
    await service.steer(id, { do: 'fail', code: 'no-luck', message: 'No luck', status, details: [{ row: 1 }] })
    const monitor = await ann.ended(id)
    const answer = await ann.get(`/jobs/${id}/result`)
    t.equal(answer.status, status)
    t.same(answer.body.error, monitor.error)
    t.same(answer.body.job, monitor)
  })
}

t.test('the result URL of a failed job never answers 5xx, even if the handler declared a 5xx status', async (t) => {
  const id = await ann.running()
  const failure = { do: 'fail', code: 'overloaded', message: 'Too much', status: 503 } as const
  await service.steer(id, failure, failure)
  await ann.ended(id)
  const { status } = await ann.get(`/jobs/${id}/result`)
  t.ok(status >= 400 && status <= 499, `${status}`)
})

t.test('the result URL of a canceled job answers 409 with operation-canceled', async (t) => {
  const { status, body } = await ann.get(`/jobs/${await ann.endedAs('canceled')}/result`)
  t.equal(status, 409)
  t.equal(body.error.code, 'operation-canceled')
})

t.test('the result URL of a job that has ended answers without Retry-After', async (t) => {
  for (const jobStatus of ['succeeded', 'failed', 'canceled'] as const) {
    const { headers } = await ann.get(`/jobs/${await ann.endedAs(jobStatus)}/result`)
    t.equal(headers['retry-after'], undefined, jobStatus)
  }
})

t.test('the result URL of a job whose record has expired answers 410', async (t) => {
  const id = await ann.endedAs('succeeded')
  await service.expire(id)
  t.equal((await ann.get(`/jobs/${id}/result`)).status, 410)
})

t.test('the result URL of an unknown job or a malformed id answers 404', async (t) => {
  for (const id of [idAt(Date.now()), 'x']) t.equal((await ann.get(`/jobs/${id}/result`)).status, 404)
})

t.test("the result URL of another principal's job answers 404 for every job status", async (t) => {
  const bob = service.as('bob')
  for (const id of [await ann.running(), await ann.endedAs('succeeded'), await ann.endedAs('failed')]) {
    const { status, text } = await bob.get(`/jobs/${id}/result`)
    t.equal(status, 404)
    t.notMatch(text, 'steered')
  }
})

t.test('unknown query parameters are ignored', async (t) => {
  const { status } = await ann.get(`${await resultUrlOf('queued')}?wait=5&x=y`)
  t.equal(status, 202)
})

t.test('HEAD answers like GET, but without a body', async (t) => {
  const { id } = await ann.submit('/notes', { text: 'x' })
  await ann.ended(id)
  const { status, headers, text } = await ann.request(`/jobs/${id}/result`, { method: 'HEAD' })
  t.equal(status, 303)
  t.equal(headers.location, `${service.api.url}/notes/${id}`)
  t.equal(text, '')
})

t.test('HEAD never waits, even with Prefer: wait', async (t) => {
  const { id } = await ann.submit('/idle', { text: 'x' })
  // If HEAD waited, it would take 55 s, and the test would fail after 45 s.
  const head = pending(ann.request(`/jobs/${id}/result`, { method: 'HEAD', headers: { prefer: 'wait=55' } }))
  t.equal((await head.result()).status, 202)
})

t.test('fetch follows the redirect of the result URL to the resource', async (t) => {
  const { id } = await ann.submit('/notes', { text: 'follow me' })
  await ann.ended(id)
  const response = await fetch(`${service.api.url}/jobs/${id}/result`, { headers: { 'x-user': 'ann' } })
  t.equal(response.url, `${service.api.url}/notes/${id}`)
  t.match(await response.json(), { text: 'follow me', status: 'ready' })
})

t.test('a client that polls the result URL and follows the redirect gets the resource', async (t) => {
  const { headers } = await ann.post('/notes', { text: 'poll me' })
  for (let location = headers.location as string; ; ) {
    const answer = await ann.get(location)
    if (answer.status === 200) {
      t.match(answer.body, { text: 'poll me', status: 'ready' })
      break
    }
    t.ok([202, 303].includes(answer.status))
    location = answer.headers.location as string
  }
})
