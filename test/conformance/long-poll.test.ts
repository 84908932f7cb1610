import t from 'tap'
import { type Client, pending, serve } from './support.ts'

t.jobs = 6

const service = await serve(t)
const ann = service.as('ann')

/** This wait is longer than the timeout of the test. If an answer arrives, something else has ended the wait. */
const long = { prefer: 'wait=55' }
const short = { prefer: 'wait=1' }

/** Reads the current ETag of a job. */
async function etagOf(client: Client, id: string): Promise<string> {
  return (await client.get(`/jobs/${id}`)).headers.etag as string
}

t.test('a long poll with If-None-Match gets 200 only after the sequence has changed', async (t) => {
  const id = await ann.running()
  const etag = await etagOf(ann, id)
  const answer = pending(ann.get(`/jobs/${id}`, { ...long, 'if-none-match': etag }))
  // Once this later request is answered, the API has also received the long poll.
  await ann.monitor(id)
  t.notOk(answer.isSettled())
  await service.steer(id, { do: 'progress', percent: 40, message: 'half way' })
  const { status, headers, body } = await answer.result()
  t.equal(status, 200)
  t.match(body, { status: 'running', percentComplete: 40, message: 'half way' })
  t.not(headers.etag, etag)
  t.equal(headers.etag, `"${body.sequence}"`)
})

t.test('a client that repeats long polls with the newest ETag receives every change', async (t) => {
  const { id } = await ann.submit('/steered', {})
  const received: string[] = []
  let etag = '"0"'
  const actions = [{ do: 'progress', percent: 40, message: 'half way' }, { do: 'succeed' }] as const
  for (;;) {
    const { status, headers, body } = await ann.get(`/jobs/${id}`, { ...long, 'if-none-match': etag })
    t.equal(status, 200)
    t.not(headers.etag, etag)
    etag = headers.etag as string
    received.push(body.message && body.status === 'running' ? body.message : body.status)
    if (body.endedAt) break
    if (body.status === 'running') await service.steer(id, actions[body.message ? 1 : 0])
  }
  t.same(
    received.filter((word) => word !== 'queued'),
    ['running', 'half way', 'succeeded'],
  )
})

t.test('a long poll with If-None-Match gets 304 after the full wait if the job does not change', async (t) => {
  const { id } = await ann.submit('/idle', { text: 'x' })
  const etag = await etagOf(ann, id)
  const askedAt = performance.now()
  const { status, headers, text } = await ann.get(`/jobs/${id}`, { ...short, 'if-none-match': etag })
  t.equal(status, 304)
  t.ok(performance.now() - askedAt >= 990)
  t.equal(text, '')
  t.equal(headers.etag, etag)
})

t.test('a long poll with an outdated ETag in If-None-Match is answered immediately', async (t) => {
  const id = await ann.running()
  const answer = pending(ann.get(`/jobs/${id}`, { ...long, 'if-none-match': '"0"' }))
  const { status, body } = await answer.result()
  t.equal(status, 200)
  t.equal(body.status, 'running')
})

t.test('a long poll with If-None-Match is answered when another request cancels the job', async (t) => {
  const { id } = await ann.submit('/idle', { text: 'x' })
  const etag = await etagOf(ann, id)
  const answer = pending(ann.get(`/jobs/${id}`, { ...long, 'if-none-match': etag }))
  await ann.post(`/jobs/${id}/cancel`, undefined)
  const { status, body } = await answer.result()
  t.equal(status, 200)
  t.equal(body.status, 'canceled')
})

t.test('a long poll without If-None-Match gets 200 when the job ends', async (t) => {
  const id = await ann.running()
  const answer = pending(ann.get(`/jobs/${id}`, long))
  await service.steer(id, { do: 'progress', percent: 40, message: 'half way' })
  await ann.untilJob(id, ({ percentComplete }) => percentComplete === 40)
  t.notOk(answer.isSettled(), 'progress does not end the wait')
  await service.steer(id, { do: 'succeed' })
  const { status, body } = await answer.result()
  t.equal(status, 200)
  t.equal(body.status, 'succeeded')
})

t.test('a long poll without If-None-Match gets the monitor after the full wait if the job does not end', async (t) => {
  const { id } = await ann.submit('/idle', { text: 'x' })
  const askedAt = performance.now()
  const { status, headers, body } = await ann.get(`/jobs/${id}`, short)
  t.ok(performance.now() - askedAt >= 990)
  t.equal(status, 200)
  t.equal(body.status, 'queued')
  t.match(headers['retry-after'], /^[1-9]\d*$/)
})

t.test('a long poll for a job that has ended is answered immediately', async (t) => {
  for (const jobStatus of ['succeeded', 'failed', 'canceled'] as const) {
    const id = await ann.endedAs(jobStatus)
    const { status, body } = await pending(ann.get(`/jobs/${id}`, long)).result()
    t.equal(status, 200)
    t.equal(body.status, jobStatus)
  }
})

t.test('if many clients wait for one job, all of them are answered', async (t) => {
  const id = await ann.running()
  const answers = Array.from({ length: 50 }, () => pending(ann.get(`/jobs/${id}`, long)))
  await ann.monitor(id)
  await service.steer(id, { do: 'succeed' })
  for (const answer of answers) {
    const { status, body } = await answer.result()
    if (status !== 200 || body.status !== 'succeeded') t.fail(`${status} ${body.status}`)
  }
  t.pass('all fifty answers match')
})

t.test('a long poll of the result URL gets 303 when the job ends with a resource', async (t) => {
  const id = await ann.running()
  const answer = pending(ann.get(`/jobs/${id}/result`, long))
  await service.steer(id, { do: 'progress', percent: 40 })
  await ann.untilJob(id, ({ percentComplete }) => percentComplete === 40)
  t.notOk(answer.isSettled(), 'progress does not end the wait')
  await service.steer(id, { do: 'set resource', path: '/notes/1' }, { do: 'succeed' })
  const { status, headers } = await answer.result()
  t.equal(status, 303)
  t.equal(headers.location, `${service.api.url}/notes/1`)
})

t.test('a long poll of the result URL gets 200 when the job ends with an inline result', async (t) => {
  const id = await ann.running({ label: 'inline' })
  const answer = pending(ann.get(`/jobs/${id}/result`, long))
  await ann.monitor(id)
  await service.steer(id, { do: 'succeed' })
  const { status, body } = await answer.result()
  t.equal(status, 200)
  t.same(body, { label: 'inline' })
})

t.test('a long poll of the result URL gets 204 when the job ends without a resource or a result', async (t) => {
  const { headers } = await ann.post('/quiet', {})
  t.equal((await pending(ann.get(headers.location as string, long)).result()).status, 204)
})

t.test('a long poll of the result URL gets 424 when the job fails', async (t) => {
  const id = await ann.running()
  const answer = pending(ann.get(`/jobs/${id}/result`, long))
  await ann.monitor(id)
  await service.steer(id, { do: 'fail', code: 'no-luck', message: 'No luck' })
  const { status, body } = await answer.result()
  t.equal(status, 424)
  t.equal(body.error.code, 'no-luck')
})

t.test('a long poll of the result URL gets 409 when the job is canceled', async (t) => {
  const { id } = await ann.submit('/idle', { text: 'x' })
  const answer = pending(ann.get(`/jobs/${id}/result`, long))
  await ann.post(`/jobs/${id}/cancel`, undefined)
  const { status, body } = await answer.result()
  t.equal(status, 409)
  t.equal(body.error.code, 'operation-canceled')
})

t.test('a long poll of the result URL gets 202 after the full wait if the job does not end', async (t) => {
  const { id } = await ann.submit('/idle', { text: 'x' })
  const askedAt = performance.now()
  const { status, headers, body } = await ann.get(`/jobs/${id}/result`, short)
  t.ok(performance.now() - askedAt >= 990)
  t.equal(status, 202)
  t.equal(headers.location, `${service.api.url}/jobs/${id}/result`)
  t.equal(body.status, 'queued')
})

t.test('a malformed wait preference is ignored, and the request is answered immediately', async (t) => {
  const id = await ann.running()
  for (const prefer of ['wait=soon', 'wait=-1', 'wait']) {
    t.equal((await pending(ann.get(`/jobs/${id}`, { prefer })).result()).status, 200)
    t.equal((await pending(ann.get(`/jobs/${id}/result`, { prefer })).result()).status, 202)
  }
})

t.test('a long poll for an unknown or expired job is answered immediately', async (t) => {
  const id = await ann.endedAs('succeeded')
  t.equal((await pending(service.as('bob').get(`/jobs/${id}`, long)).result()).status, 404)
  await service.expire(id)
  t.equal((await pending(ann.get(`/jobs/${id}`, long)).result()).status, 410)
  t.equal((await pending(ann.get(`/jobs/${id}/result`, long)).result()).status, 410)
})
