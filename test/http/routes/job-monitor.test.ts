import { defineOperation } from 'accepted'
import t from 'tap'
import Type from 'typebox'
import { serve } from '../../support/api.ts'
import { get, post } from '../../support/client.ts'

const operation = defineOperation({
  name: 'note.create',
  route: { method: 'POST', url: '/notes' },
  input: Type.Object({ text: Type.String() }),
  result: Type.Object({ length: Type.Integer() }),
})

async function setUp(t: Parameters<typeof serve>[0]) {
  const api = await serve(t, {
    operations: { operation },
    authenticate: (request) => request.headers['x-user']?.toString() ?? 'ann',
  })
  const { body } = await post(`${api.url}/notes`, { text: 'x' })
  const set = (assignments: string) =>
    api.database.pool.query(`update accepted.job set ${assignments} where id = $1`, [body.id])
  return { ...api, id: body.id as string, monitor: body.links.self as string, result: body.links.result as string, set }
}

t.test(
  'while a job is pending, the status URL answers 200, and the result URL answers 202 with the same body',
  async (t) => {
    const { monitor, result, set } = await setUp(t)
    for (const [index, jobStatus] of ['queued', 'running'].entries()) {
      await set(`status = '${jobStatus}'`)
      const status = await get(monitor)
      t.equal(status.status, 200)
      t.equal(status.body.status, jobStatus)
      t.equal(status.headers.get('retry-after'), '1')
      t.equal(status.headers.get('etag'), `"${index + 1}"`)
      t.equal(status.headers.get('cache-control'), 'private, no-cache')
      t.equal(status.headers.get('vary'), 'Accept, Prefer, Authorization')
      const pending = await get(result)
      t.equal(pending.status, 202)
      t.equal(pending.headers.get('location'), result)
      t.equal(pending.headers.get('retry-after'), '1')
      t.same(pending.body, status.body)
    }
  },
)

t.test('members without a value are absent from the monitor', async (t) => {
  const { monitor } = await setUp(t)
  t.same(Object.keys((await get(monitor)).body).sort(), [
    ...['attempt', 'cancelRequested', 'createdAt', 'expiresAt', 'id', 'links', 'maxAttempts', 'operation'],
    ...['sequence', 'status', 'updatedAt'],
  ])
})

t.test('the result URL of a job with a resource redirects to the resource with 303', async (t) => {
  const { url, monitor, result, set } = await setUp(t)
  await set(`status = 'succeeded', ended_at = now(), resource = '/notes/1'`)
  const status = await get(monitor)
  t.equal(status.body.resourceLocation, `${url}/notes/1`)
  t.equal(status.headers.get('retry-after'), null, 'a job that has ended has no Retry-After')
  const { status: code, headers } = await get(result)
  t.equal(code, 303)
  t.equal(headers.get('location'), `${url}/notes/1`)
})

t.test('the result URL of a job with an inline result answers 200 with that result', async (t) => {
  const { monitor, result, set } = await setUp(t)
  await set(`status = 'succeeded', ended_at = now(), result = '{"length": 1}'`)
  t.same((await get(monitor)).body.result, { length: 1 })
  const { status, body } = await get(result)
  t.same([status, body], [200, { length: 1 }])
})

t.test('the result URL of a job without a resource or an inline result answers 204', async (t) => {
  const { result, set } = await setUp(t)
  await set(`status = 'succeeded', ended_at = now()`)
  t.equal((await get(result)).status, 204)
})

t.test(
  'the result URL of a failed job answers 424, or the 4xx of the handler, with the error and the monitor',
  async (t) => {
    const { monitor, result, set } = await setUp(t)
    await set(
      `status = 'failed', ended_at = now(), error = '{"code": "too-late", "message": "It is too late", "public": true}'`,
    )
    const status = await get(monitor)
    t.same(status.body.error, { code: 'too-late', message: 'It is too late' })
    const failed = await get(result)
    t.equal(failed.status, 424)
    t.equal(failed.headers.get('content-type'), 'application/problem+json; charset=utf-8')
    t.match(failed.body, { type: '/docs/problems/job-failed', error: status.body.error, job: status.body })
    t.equal(failed.body.status, undefined)
    await set(`error = '{"code": "too-late", "message": "It is too late", "public": true, "status": 409}'`)
    t.equal((await get(result)).status, 409)
    t.equal((await get(monitor)).body.error.status, undefined)
  },
)

t.test('the result URL of a canceled job answers 409', async (t) => {
  const { result, set } = await setUp(t)
  await set(`status = 'canceled', ended_at = now()`)
  const { status, body } = await get(result)
  t.equal(status, 409)
  t.match(body, { error: { code: 'operation-canceled' }, job: { status: 'canceled' } })
})

t.test('the status URL and the result URL of a job whose record has expired answer 410', async (t) => {
  const { monitor, result, set } = await setUp(t)
  await set(`status = 'succeeded', ended_at = now(), expires_at = now() - interval '1 second'`)
  for (const url of [monitor, result]) {
    const { status, body } = await get(url)
    t.equal(status, 410)
    t.equal(body.error.code, 'job-expired')
  }
})

t.test(
  'an id without a record gets 404, or 410 if the id is older than any record can be; a malformed id gets 404',
  async (t) => {
    const { url } = await setUp(t)
    const idAt = (time: number) => {
      const hex = time.toString(16).padStart(12, '0')
      return `${hex.slice(0, 8)}-${hex.slice(8)}-7000-8000-000000000000`
    }
    const day = 24 * 60 * 60 * 1000
    for (const [id, expected] of [
      [idAt(Date.now() - 6 * day), 404],
      [idAt(Date.now() - 8 * day), 410],
      ['00000000-0000-4000-8000-000000000000', 404],
      ['x', 404],
      ["' or 1=1--", 404],
    ] as const) {
      t.equal((await get(`${url}/jobs/${encodeURIComponent(id)}`)).status, expected, id)
      t.equal((await get(`${url}/jobs/${encodeURIComponent(id)}/result`)).status, expected, id)
    }
  },
)

t.test("the status URL answers the same 404 for another principal's job as for a job that never existed", async (t) => {
  const { url, id, monitor } = await setUp(t)
  const theirs = await get(monitor, { 'x-user': 'bob' })
  const other = id.replace(/.$/, (digit) => (digit === '0' ? '1' : '0'))
  const none = await get(`${url}/jobs/${other}`, { 'x-user': 'bob' })
  t.equal(theirs.status, 404)
  t.same({ ...theirs.body, instance: '' }, { ...none.body, instance: '' })
})

t.test('a request with If-None-Match gets 304 while the sequence is the same', async (t) => {
  const { monitor, set } = await setUp(t)
  for (const tag of ['"1"', 'W/"1"', '"0", "1"', '*']) {
    const { status, body } = await get(monitor, { 'if-none-match': tag })
    t.same([status, body], [304, undefined], tag)
  }
  t.equal((await get(monitor, { 'if-none-match': '"0"' })).status, 200)
  await set('sequence = sequence + 1')
  const { status, headers } = await get(monitor, { 'if-none-match': '"1"' })
  t.same([status, headers.get('etag')], [200, '"2"'])
})
