import t from 'tap'
import { idAt, pending, serve } from './support.ts'

t.jobs = 4

const service = await serve(t)
const ann = service.as('ann')

/** A job in the state, and its result URL. */
async function resultOf(state: 'queued' | 'running'): Promise<string> {
  const id = state === 'running' ? await ann.running() : (await ann.submit('/idle', { text: 'x' })).id
  return `${service.api.url}/jobs/${id}/result`
}

for (const state of ['queued', 'running'] as const) {
  t.test(`${state}: 202 with the monitor as its body`, async (t) => {
    const result = await resultOf(state)
    const { status, body } = await ann.get(result)
    t.equal(status, 202)
    t.equal(body.status, state)
    t.same(body, await ann.monitor(body.id))
  })

  t.test(`${state}: Location is the result URL itself`, async (t) => {
    const result = await resultOf(state)
    t.equal((await ann.get(result)).headers.location, result)
  })

  t.test(`${state}: Retry-After is an integer of at least 1`, async (t) => {
    t.match((await ann.get(await resultOf(state))).headers['retry-after'], /^[1-9]\d*$/)
  })
}

t.test('succeeded, with a resource: 303 to it', async (t) => {
  const { id } = await ann.submit('/notes', { text: 'x' })
  await ann.ended(id)
  const { status, headers } = await ann.get(`/jobs/${id}/result`)
  t.equal(status, 303)
  t.equal(headers.location, `${service.api.url}/notes/${id}`)
  t.equal(headers['retry-after'], undefined)
})

t.test('succeeded, with a resource that the handler named: 303 to it', async (t) => {
  const id = await ann.running()
  await service.steer(id, { do: 'point at', path: '/notes/elsewhere' }, { do: 'succeed' })
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
  t.test(`succeeded, with the resource ${JSON.stringify(path)}: a URI everywhere`, async (t) => {
    const location = expected.startsWith('/') ? service.api.url + expected : expected
    const key = { 'idempotency-key': expected }
    const id = await ann.running({}, key)
    await service.steer(id, { do: 'point at', path }, { do: 'succeed' })
    t.equal((await ann.ended(id)).resourceLocation, location)
    const waited = await ann.post('/steered', {}, { ...key, prefer: 'wait=30, return=representation' })
    for (const { status, headers } of [await ann.get(`/jobs/${id}/result`), waited]) {
      t.equal(status, 303)
      t.equal(headers.location, location)
    }
  })
}

t.test('succeeded, inline result: 200 with the result', async (t) => {
  const { id } = await ann.submit('/sums', { numbers: [1, 2] })
  await ann.ended(id)
  const { status, headers, body } = await ann.get(`/jobs/${id}/result`)
  t.equal(status, 200)
  t.match(headers['content-type'], /^application\/json\b/)
  t.same(body, { total: 3 })
  t.equal(headers['retry-after'], undefined)
})

for (const value of ['a text', '', 0, false, [1], {}]) {
  t.test(`succeeded, inline result that is ${JSON.stringify(value)}: 200 with it as JSON`, async (t) => {
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

t.test('succeeded, neither: 204', async (t) => {
  const { id } = await ann.submit('/quiet', {})
  await ann.ended(id)
  const { status, text } = await ann.get(`/jobs/${id}/result`)
  t.equal(status, 204)
  t.equal(text, '')
})

t.test("failed: the handler's declared 4xx", async (t) => {
  const id = await ann.running()
  await service.steer(id, { do: 'fail', code: 'too-late', message: 'It is too late', status: 422 })
  await ann.ended(id)
  t.equal((await ann.get(`/jobs/${id}/result`)).status, 422)
})

t.test('failed, when the handler declared nothing: 424', async (t) => {
  const id = await ann.endedAs('failed')
  t.equal((await ann.get(`/jobs/${id}/result`)).status, 424)
})

t.test('failed, when the attempts are used up: 424', async (t) => {
  const id = await ann.running()
  await service.steer(id, { do: 'throw', message: 'once' }, { do: 'throw', message: 'twice' })
  await ann.ended(id)
  t.equal((await ann.get(`/jobs/${id}/result`)).status, 424)
})

t.test('failed: problem details with the same error and the monitor as member job', async (t) => {
  const id = await ann.running()
  await service.steer(id, { do: 'fail', code: 'no-luck', message: 'No luck', details: [{ row: 1 }] })
  const monitor = await ann.ended(id)
  const { headers, body } = await ann.get(`/jobs/${id}/result`)
  t.match(headers['content-type'], /^application\/problem\+json\b/)
  t.same(body.error, { code: 'no-luck', message: 'No luck', details: [{ row: 1 }] })
  t.same(body.error, monitor.error)
  t.same(body.job, monitor)
})

for (const status of [400, 401, 404, 406, 408, 410, 429, 431]) {
  t.test(`failed, with ${status}, which also says other things: the monitor is there all the same`, async (t) => {
    const id = await ann.running()
    await service.steer(id, { do: 'fail', code: 'no-luck', message: 'No luck', status, details: [{ row: 1 }] })
    const monitor = await ann.ended(id)
    const answer = await ann.get(`/jobs/${id}/result`)
    t.equal(answer.status, status)
    t.same(answer.body.error, monitor.error)
    t.same(answer.body.job, monitor)
  })
}

t.test('failed: never 5xx, also when the handler wants one', async (t) => {
  const id = await ann.running()
  const failure = { do: 'fail', code: 'overloaded', message: 'Too much', status: 503 } as const
  await service.steer(id, failure, failure)
  await ann.ended(id)
  const { status } = await ann.get(`/jobs/${id}/result`)
  t.ok(status >= 400 && status <= 499, `${status}`)
})

t.test('canceled: 409 operation-canceled', async (t) => {
  const { status, body } = await ann.get(`/jobs/${await ann.endedAs('canceled')}/result`)
  t.equal(status, 409)
  t.equal(body.error.code, 'operation-canceled')
})

t.test('terminal: no Retry-After', async (t) => {
  for (const state of ['succeeded', 'failed', 'canceled'] as const) {
    const { headers } = await ann.get(`/jobs/${await ann.endedAs(state)}/result`)
    t.equal(headers['retry-after'], undefined, state)
  }
})

t.test('a record that has expired: 410', async (t) => {
  const id = await ann.endedAs('succeeded')
  await service.expire(id)
  t.equal((await ann.get(`/jobs/${id}/result`)).status, 410)
})

t.test('an unknown job, and one with a malformed id: 404', async (t) => {
  for (const id of [idAt(Date.now()), 'x']) t.equal((await ann.get(`/jobs/${id}/result`)).status, 404)
})

t.test("someone else's job: 404, whether it is pending or has ended", async (t) => {
  const bob = service.as('bob')
  for (const id of [await ann.running(), await ann.endedAs('succeeded'), await ann.endedAs('failed')]) {
    const { status, text } = await bob.get(`/jobs/${id}/result`)
    t.equal(status, 404)
    t.notMatch(text, 'steered')
  }
})

t.test('unknown query parameters are ignored', async (t) => {
  const { status } = await ann.get(`${await resultOf('queued')}?wait=5&x=y`)
  t.equal(status, 202)
})

t.test('HEAD answers what GET does, without a body', async (t) => {
  const { id } = await ann.submit('/notes', { text: 'x' })
  await ann.ended(id)
  const { status, headers, text } = await ann.request(`/jobs/${id}/result`, { method: 'HEAD' })
  t.equal(status, 303)
  t.equal(headers.location, `${service.api.url}/notes/${id}`)
  t.equal(text, '')
})

t.test('HEAD never waits', async (t) => {
  const { id } = await ann.submit('/idle', { text: 'x' })
  // Longer than a test is patient.
  const head = pending(ann.request(`/jobs/${id}/result`, { method: 'HEAD', headers: { prefer: 'wait=55' } }))
  t.equal((await head.result()).status, 202)
})

t.test('fetch, which follows redirects, arrives at the resource', async (t) => {
  const { id } = await ann.submit('/notes', { text: 'follow me' })
  await ann.ended(id)
  const response = await fetch(`${service.api.url}/jobs/${id}/result`, { headers: { 'x-user': 'ann' } })
  t.equal(response.url, `${service.api.url}/notes/${id}`)
  t.match(await response.json(), { text: 'follow me', status: 'ready' })
})

t.test(
  'a client that repeats the result URL while it is 202 and then follows it arrives at the resource',
  async (t) => {
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
  },
)
