import { defineOperation } from 'accepted'
import t from 'tap'
import Type from 'typebox'
import { serve } from '../../support/api.ts'
import { get, post } from '../../support/client.ts'

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
    t.match(second.headers.get('ratelimit'), /^"default";r=0;t=3(600|599)$/)

    const { status, headers, body } = await post(`${url}/notes`, { text: '3' }, { 'idempotency-key': 'b' })
    t.equal(status, 429)
    t.equal(body.error.code, 'too-many-requests')
    t.ok(Number(headers.get('retry-after')) > 3500)
    t.match(headers.get('ratelimit'), '"default";r=0;t=')
    const { rows } = await database.pool.query('select count(*)::int as jobs from accepted.job')
    t.same(rows, [{ jobs: 2 }])
    t.equal((await get(`${url}/jobs`)).status, 429)

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
