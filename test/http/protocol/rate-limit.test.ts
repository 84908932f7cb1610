import { defineOperation } from 'accepted'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { uuid7 } from '../../../src/primitives/uuid.ts'
import { serve } from '../../support/api.ts'
import { get, type JsonResponse, post } from '../../support/client.ts'

const note = defineOperation({
  name: 'note.create',
  route: { method: 'POST', url: '/notes' },
  input: Type.Object({ text: Type.String() }),
})

t.test(
  'a principal above its quota gets 429 and stores nothing, but can still read each job once per second',
  async (t) => {
    const { url, database } = await serve(t, {
      operations: { note },
      rateLimit: { requests: 2, seconds: 3600 },
      authenticate: (request) => request.headers['x-user']?.toString() ?? 'ann',
    })
    const first = await post(`${url}/notes`, { text: '1' }, { 'idempotency-key': 'a' })
    t.equal(first.headers.get('ratelimit-policy'), '"default";q=2;w=3600')
    t.match(first.headers.get('ratelimit'), /^"default";r=1;t=3600$/)
    const second = await post(`${url}/notes`, { text: '2' })
    t.match(second.headers.get('ratelimit'), /^"default";r=0;t=3(600|5\d\d)$/)

    const { status, headers, body } = await post(`${url}/notes`, { text: '3' }, { 'idempotency-key': 'b' })
    t.equal(status, 429)
    t.equal(body.error.code, 'too-many-requests')
    t.ok(Number(headers.get('retry-after')) > 3500)
    t.match(headers.get('ratelimit'), '"default";r=0;t=')
    const { rows } = await database.pool.query('select count(*)::int as jobs from accepted.job')
    t.same(rows, [{ jobs: 2 }])
    t.equal((await get(`${url}/jobs`)).status, 429)
    const browser = { accept: 'text/html', 'sec-fetch-site': 'same-origin' }
    t.match(await get(`${url}/jobs`, browser), { status: 429, body: '<meta http-equiv="refresh"' })
    const form = await post(first.body.links.cancel, {}, browser)
    t.match(form, { status: 429, body: '<h1 class="title">' })
    t.notMatch(form.body, 'http-equiv', 'a browser would repeat a form as GET')

    const reads = await Promise.all(Array.from({ length: 20 }, () => get(first.body.links.self)))
    t.same(new Set(reads.map((read) => read.status)), new Set([200, 429]), 'one read of a job per second is free')
    t.equal((await get(second.body.links.result)).status, 202, 'another job has its own free read')
    t.equal(
      (await post(`${url}/notes`, { text: '4' }, { 'x-user': 'bob' })).status,
      202,
      'another principal has its own quota',
    )
    t.equal((await get(`${url}/health/live`)).status, 200)
  },
)

t.test('without the option, 60,000 requests a minute are allowed, and false removes the limit', async (t) => {
  const limited = await serve(t, { operations: { note } })
  const { headers } = await get(`${limited.url}/jobs`)
  t.equal(headers.get('ratelimit-policy'), '"default";q=60000;w=60')
  t.match(headers.get('ratelimit'), /^"default";r=59999;t=\d+$/)
  const unlimited = await serve(t, { operations: { note }, rateLimit: false })
  t.equal((await get(`${unlimited.url}/jobs`)).headers.get('ratelimit-policy'), null)
})

/** Asserts that a request was refused by the policy with the given name. */
const assertRefused = (t: Test, { status, headers, body }: JsonResponse, policy: string) => {
  t.match({ status, body }, { status: 429, body: { error: { code: 'too-many-requests' } } })
  t.match(headers.get('ratelimit'), `"${policy}";r=0;t=`)
  t.match(headers.get('ratelimit-policy'), new RegExp(`^"${policy}";q=\\d+;w=\\d+$`))
  t.match(headers.get('retry-after'), /^[1-9]\d*$/)
}

t.test(
  'a principal that asks for many unknown jobs is refused them, and still reads the jobs that it has found',
  async (t) => {
    const { url } = await serve(t, {
      operations: { note },
      rateLimit: { requests: 1_000, seconds: 3600 },
      authenticate: (request) => request.headers['x-user']?.toString() ?? 'ann',
    })
    const { body } = await post(`${url}/notes`, { text: '1' })
    t.equal((await get(body.links.self)).status, 200)
    const routes = ['', '/result', '/events']
    for (let count = 0; count < 100; count++) {
      t.equal((await get(`${url}/jobs/${uuid7()}${routes[count % routes.length]}`)).status, 404)
    }
    for (const route of routes) assertRefused(t, await get(`${url}/jobs/${uuid7()}${route}`), 'unknown-ids')
    assertRefused(t, await post(`${url}/jobs/${uuid7()}/cancel`, {}), 'unknown-ids')
    t.equal((await get(body.links.self)).status, 200)
    t.equal((await get(body.links.result)).status, 202)
    t.equal((await post(`${url}/notes`, { text: '2' })).status, 202)
    t.equal((await get(`${url}/jobs`)).status, 200)
    t.equal((await get(`${url}/jobs/${uuid7()}`, { 'x-user': 'bob' })).status, 404)
  },
)

t.test('an address that often fails to authenticate gets 429; known credentials still work', async (t) => {
  const seen: string[] = []
  const { url } = await serve(t, {
    operations: { note },
    rateLimit: { requests: 50, seconds: 3600 },
    authenticate: ({ headers: { authorization = '' } }) => {
      seen.push(authorization)
      return authorization.startsWith('Bearer good') ? 'ann' : null
    },
  })
  const list = (credential?: string) => get(`${url}/jobs`, credential ? { authorization: `Bearer ${credential}` } : {})
  t.equal((await list('good')).status, 200)
  for (let count = 0; count < 50; count++) t.equal((await list(count % 2 ? `bad ${count}` : undefined)).status, 401)
  assertRefused(t, await list(), 'failed-authentication')
  const callCount = seen.length
  assertRefused(t, await list('bad 1'), 'failed-authentication')
  assertRefused(t, await list('good, but never seen'), 'failed-authentication')
  t.equal(seen.length, callCount, 'an unknown credential costs nothing')
  t.equal((await list('good')).status, 200)
})
