import t from 'tap'
import { type Answer, pending, preferencesApplied, serve } from './support.ts'

t.jobs = 4

const service = await serve(t)
const ann = service.as('ann')

const linkHeaders = ['operation-location', 'content-location', 'location', 'retry-after', 'cache-control']

/** Returns whether a response is a 202 with all headers that lead to the job. */
function leadsToJob(answer: Answer): boolean {
  return answer.status === 202 && linkHeaders.every((name) => answer.headers[name])
}

t.test('a request with return=minimal gets 202 with all headers and an empty body', async (t) => {
  const answer = await ann.post('/idle', { text: 'x' }, { prefer: 'return=minimal' })
  t.ok(leadsToJob(answer))
  t.equal(answer.text, '')
  t.same(preferencesApplied(answer), ['return=minimal'])
  const { body } = await ann.get(answer.headers['operation-location'] as string)
  t.equal(body.operation, 'idle')
})

t.test('a request with respond-async gets 202', async (t) => {
  const answer = await ann.post('/idle', { text: 'x' }, { prefer: 'respond-async' })
  t.ok(leadsToJob(answer))
  t.equal(answer.body.status, 'queued')
  t.same(preferencesApplied(answer), ['respond-async'])
})

t.test('a request with wait gets 200 with the final monitor if the job succeeds in time', async (t) => {
  const answer = await ann.post('/sums', { numbers: [1, 2, 3] }, { prefer: 'wait=30' })
  t.equal(answer.status, 200)
  t.match(answer.body, { operation: 'sum', status: 'succeeded', result: { total: 6 } })
  t.same(answer.body, await ann.monitor(answer.body.id))
  t.same(preferencesApplied(answer), ['wait=30'])
})

t.test('a request with wait is not answered before the job has ended', async (t) => {
  const bob = service.as('bob')
  const answer = pending(bob.post('/steered', { label: 'held' }, { prefer: 'wait=55' }))
  const id = await idOfOnlyJob('bob')
  await bob.untilJob(id, ({ status }) => status === 'running')
  await service.steer(id, { do: 'progress', percent: 40, message: 'half way' })
  await bob.untilJob(id, ({ percentComplete }) => percentComplete === 40)
  t.notOk(answer.isSettled(), 'neither the start nor progress ends the wait')
  await service.steer(id, { do: 'succeed' })
  const { status, body } = await answer.result()
  t.equal(status, 200)
  t.match(body, { id, status: 'succeeded', result: { label: 'held' } })
})

t.test('a request with wait gets 200 with the final monitor if the job fails before the wait ends', async (t) => {
  const cleo = service.as('cleo')
  const answer = pending(cleo.post('/steered', {}, { prefer: 'wait=55' }))
  const id = await idOfOnlyJob('cleo')
  await service.steer(id, { do: 'fail', code: 'no-luck', message: 'No luck', status: 409 })
  const { status, body } = await answer.result()
  t.equal(status, 200)
  t.match(body, { id, status: 'failed', error: { code: 'no-luck', message: 'No luck' } })
})

t.test('a request with wait gets 200 with the final monitor if the job is canceled in time', async (t) => {
  const dora = service.as('dora')
  const answer = pending(dora.post('/idle', { text: 'x' }, { prefer: 'wait=55' }))
  const id = await idOfOnlyJob('dora')
  await dora.post(`/jobs/${id}/cancel`, undefined)
  const { status, body } = await answer.result()
  t.equal(status, 200)
  t.match(body, { id, status: 'canceled' })
})

t.test('a request with wait gets 202 after the full wait if the job does not end in time', async (t) => {
  const postedAt = performance.now()
  const answer = await ann.post('/idle', { text: 'x' }, { prefer: 'wait=1' })
  t.ok(performance.now() - postedAt >= 990)
  t.ok(leadsToJob(answer))
  t.equal(answer.body.status, 'queued')
})

t.test('wait is limited to 55 seconds, and Preference-Applied contains wait=55', async (t) => {
  const answer = await ann.post('/sums', { numbers: [1] }, { prefer: 'wait=3600' })
  t.equal(answer.status, 200)
  t.same(preferencesApplied(answer), ['wait=55'])
})

t.test('a request with wait and return=representation gets 303 if the job succeeds with a resource', async (t) => {
  const answer = await ann.post('/notes', { text: 'read me' }, { prefer: 'wait=30, return=representation' })
  t.equal(answer.status, 303)
  t.match(answer.headers.location, /\/notes\/[0-9a-f-]+$/)
  t.same(preferencesApplied(answer).sort(), ['return=representation', 'wait=30'])
  const note = await ann.get(answer.headers.location as string)
  t.match(note.body, { text: 'read me', status: 'ready' })
})

t.test('a request with wait and return=representation gets the inline result if the job has one', async (t) => {
  const answer = await ann.post('/sums', { numbers: [2, 2] }, { prefer: 'wait=30, return=representation' })
  t.equal(answer.status, 200)
  t.same(answer.body, { total: 4 })
  t.equal(
    answer.headers['content-location'],
    undefined,
    'there is no Content-Location, because the body is not the monitor',
  )
  t.match(answer.headers['operation-location'], /\/jobs\//)
})

t.test('a request with wait as its only preference gets the final monitor, which contains the result', async (t) => {
  const answer = await ann.post('/sums', { numbers: [2, 3] }, { prefer: 'wait=30' })
  t.equal(answer.status, 200)
  t.match(answer.body, { status: 'succeeded', result: { total: 5 } })
  t.same(answer.body, await ann.monitor(answer.body.id))
})

t.test('a request with wait and return=representation gets the final monitor if the job fails', async (t) => {
  const eve = service.as('eve')
  const answer = pending(eve.post('/steered', {}, { prefer: 'wait=55, return=representation' }))
  const id = await idOfOnlyJob('eve')
  await service.steer(id, { do: 'fail', code: 'no-luck', message: 'No luck' })
  const { status, body } = await answer.result()
  t.equal(status, 200)
  t.match(body, { id, status: 'failed', error: { code: 'no-luck' } })
})

t.test(
  'a request with wait and return=representation gets 202 with the monitor if the job does not end in time',
  async (t) => {
    const answer = await ann.post('/idle', { text: 'x' }, { prefer: 'wait=1, return=representation' })
    t.ok(leadsToJob(answer))
    t.equal(answer.body.status, 'queued')
  },
)

t.test(
  'a request with wait and return=minimal gets 202 with an empty body if the job does not end in time',
  async (t) => {
    const answer = await ann.post('/idle', { text: 'x' }, { prefer: 'wait=1, return=minimal' })
    t.ok(leadsToJob(answer))
    t.equal(answer.text, '')
    t.same(preferencesApplied(answer).sort(), ['return=minimal', 'wait=1'])
  },
)

t.test('the response to a request without Prefer has no Preference-Applied', async (t) => {
  const answer = await ann.post('/idle', { text: 'x' })
  t.equal(answer.headers['preference-applied'], undefined)
})

for (const malformed of [
  ...['wait=soon', 'wait=-1', 'wait=1.5', 'wait', 'wait=', 'wait=1e1', 'wait=0x9'],
  ...['return=everything', 'return', 'return=', '=', ',,', 'wait==5', '"wait=5"', 'wait 5', ';;'],
]) {
  t.test(`a malformed preference is ignored: ${malformed}`, async (t) => {
    const answer = await ann.post('/idle', { text: 'x' }, { prefer: malformed })
    t.ok(leadsToJob(answer))
    t.equal(answer.body.status, 'queued')
    t.equal(answer.headers['preference-applied'], undefined)
  })
}

t.test('a malformed preference does not affect the other preferences', async (t) => {
  for (const prefer of ['wait=soon, return=minimal', 'return=minimal, wait=soon']) {
    const answer = await ann.post('/idle', { text: 'x' }, { prefer })
    t.equal(answer.text, '')
    t.same(preferencesApplied(answer), ['return=minimal'], prefer)
  }
})

t.test('an unknown preference is ignored', async (t) => {
  const answer = await ann.post('/idle', { text: 'x' }, { prefer: 'handling=lenient, return=minimal' })
  t.equal(answer.status, 202)
  t.same(preferencesApplied(answer), ['return=minimal'])
})

t.test('preferences may be spread over several field lines (RFC 7240, section 2)', async (t) => {
  const answer = await ann.post('/sums', { numbers: [5] }, { prefer: ['wait=30', 'return=representation'] })
  t.equal(answer.status, 200)
  t.same(answer.body, { total: 5 })
})

t.test('the name of a preference is case-insensitive, and its value may be quoted (RFC 7240, section 2)', async (t) => {
  const answer = await ann.post('/idle', { text: 'x' }, { prefer: 'Return="minimal"' })
  t.equal(answer.status, 202)
  t.equal(answer.text, '')
})

t.test('if a preference is repeated, its first value applies (RFC 7240, section 2)', async (t) => {
  const answer = await ann.post('/idle', { text: 'x' }, { prefer: 'return=minimal, return=representation' })
  t.equal(answer.text, '')
  t.same(preferencesApplied(answer), ['return=minimal'])
})

t.test('a refused request is answered immediately, even with Prefer: wait', async (t) => {
  const { status } = await ann.post('/sums', { numbers: 'none' }, { prefer: 'wait=30, return=representation' })
  t.equal(status, 400)
})

/**
 * Waits until a principal has a job, and returns the id of the job. Reads the database, because the request that
 * creates the job has not been answered yet.
 */
async function idOfOnlyJob(principal: string): Promise<string> {
  for (;;) {
    const { rows } = await service.pool.query('select id from accepted.job where principal = $1', [principal])
    if (rows[0]) return rows[0].id
  }
}
