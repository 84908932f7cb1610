import t from 'tap'
import { type Client, pending, serve } from './support.ts'

t.jobs = 6

const service = await serve(t)
const ann = service.as('ann')

/** Longer than a test is patient: an answer that comes in time has come for another reason than the end of the wait. */
const long = { prefer: 'wait=55' }
const short = { prefer: 'wait=1' }

/** The ETag of a job as it is now. */
async function tagOf(client: Client, id: string): Promise<string> {
  return (await client.get(`/jobs/${id}`)).headers.etag as string
}

t.test('wait with If-None-Match: answered 200 when the sequence changes, and not before', async (t) => {
  const id = await ann.running()
  const etag = await tagOf(ann, id)
  const answer = pending(ann.get(`/jobs/${id}`, { ...long, 'if-none-match': etag }))
  // A round trip later, so that it is being held.
  await ann.monitor(id)
  t.notOk(answer.isSettled())
  await service.steer(id, { do: 'progress', percent: 40, message: 'half way' })
  const { status, headers, body } = await answer.result()
  t.equal(status, 200)
  t.match(body, { status: 'running', percentComplete: 40, message: 'half way' })
  t.not(headers.etag, etag)
  t.equal(headers.etag, `"${body.sequence}"`)
})

t.test('wait with If-None-Match: every change is told to one who repeats it with the newest ETag', async (t) => {
  const { id } = await ann.submit('/steered', {})
  const told: string[] = []
  let etag = '"0"'
  const actions = [{ do: 'progress', percent: 40, message: 'half way' }, { do: 'succeed' }] as const
  for (;;) {
    const { status, headers, body } = await ann.get(`/jobs/${id}`, { ...long, 'if-none-match': etag })
    t.equal(status, 200)
    t.not(headers.etag, etag)
    etag = headers.etag as string
    told.push(body.message && body.status === 'running' ? body.message : body.status)
    if (body.endedAt) break
    if (body.status === 'running') await service.steer(id, actions[body.message ? 1 : 0])
  }
  t.same(
    told.filter((word) => word !== 'queued'),
    ['running', 'half way', 'succeeded'],
  )
})

t.test('wait with If-None-Match: 304 after N seconds without a change, and not before', async (t) => {
  const { id } = await ann.submit('/idle', { text: 'x' })
  const etag = await tagOf(ann, id)
  const asked = performance.now()
  const { status, headers, text } = await ann.get(`/jobs/${id}`, { ...short, 'if-none-match': etag })
  t.equal(status, 304)
  t.ok(performance.now() - asked >= 990)
  t.equal(text, '')
  t.equal(headers.etag, etag)
})

t.test('wait with If-None-Match: what has changed already is answered without waiting', async (t) => {
  const id = await ann.running()
  const answer = pending(ann.get(`/jobs/${id}`, { ...long, 'if-none-match': '"0"' }))
  const { status, body } = await answer.result()
  t.equal(status, 200)
  t.equal(body.status, 'running')
})

t.test('wait with If-None-Match: a job that was canceled by somebody else is told', async (t) => {
  const { id } = await ann.submit('/idle', { text: 'x' })
  const etag = await tagOf(ann, id)
  const answer = pending(ann.get(`/jobs/${id}`, { ...long, 'if-none-match': etag }))
  await ann.post(`/jobs/${id}/cancel`, undefined)
  const { status, body } = await answer.result()
  t.equal(status, 200)
  t.equal(body.status, 'canceled')
})

t.test('wait without If-None-Match: held until the job ends, then 200', async (t) => {
  const id = await ann.running()
  const answer = pending(ann.get(`/jobs/${id}`, long))
  await service.steer(id, { do: 'progress', percent: 40, message: 'half way' })
  await ann.untilJob(id, ({ percentComplete }) => percentComplete === 40)
  t.notOk(answer.isSettled(), 'progress is not the end')
  await service.steer(id, { do: 'succeed' })
  const { status, body } = await answer.result()
  t.equal(status, 200)
  t.equal(body.status, 'succeeded')
})

t.test('wait without If-None-Match: 200 with the pending monitor when N is over, and not before', async (t) => {
  const { id } = await ann.submit('/idle', { text: 'x' })
  const asked = performance.now()
  const { status, headers, body } = await ann.get(`/jobs/${id}`, short)
  t.ok(performance.now() - asked >= 990)
  t.equal(status, 200)
  t.equal(body.status, 'queued')
  t.match(headers['retry-after'], /^[1-9]\d*$/)
})

t.test('wait without If-None-Match: a job that has ended is answered without waiting', async (t) => {
  for (const state of ['succeeded', 'failed', 'canceled'] as const) {
    const id = await ann.endedAs(state)
    const { status, body } = await pending(ann.get(`/jobs/${id}`, long)).result()
    t.equal(status, 200)
    t.equal(body.status, state)
  }
})

t.test('many clients wait for one job, and all are told', async (t) => {
  const id = await ann.running()
  const answers = Array.from({ length: 50 }, () => pending(ann.get(`/jobs/${id}`, long)))
  await ann.monitor(id)
  await service.steer(id, { do: 'succeed' })
  for (const answer of answers) {
    const { status, body } = await answer.result()
    if (status !== 200 || body.status !== 'succeeded') t.fail(`${status} ${body.status}`)
  }
  t.pass('all fifty')
})

t.test('result: wait holds until the job ends, then 303 when it made a resource', async (t) => {
  const id = await ann.running()
  const answer = pending(ann.get(`/jobs/${id}/result`, long))
  await service.steer(id, { do: 'progress', percent: 40 })
  await ann.untilJob(id, ({ percentComplete }) => percentComplete === 40)
  t.notOk(answer.isSettled(), 'progress is not the end')
  await service.steer(id, { do: 'point at', path: '/notes/1' }, { do: 'succeed' })
  const { status, headers } = await answer.result()
  t.equal(status, 303)
  t.equal(headers.location, `${service.api.url}/notes/1`)
})

t.test('result: wait holds until the job ends, then 200 with the inline result', async (t) => {
  const id = await ann.running({ label: 'inline' })
  const answer = pending(ann.get(`/jobs/${id}/result`, long))
  await ann.monitor(id)
  await service.steer(id, { do: 'succeed' })
  const { status, body } = await answer.result()
  t.equal(status, 200)
  t.same(body, { label: 'inline' })
})

t.test('result: wait holds until the job ends, then 204 when there is neither', async (t) => {
  const { headers } = await ann.post('/quiet', {})
  t.equal((await pending(ann.get(headers.location as string, long)).result()).status, 204)
})

t.test('result: wait holds until the job ends, then 424 when it failed', async (t) => {
  const id = await ann.running()
  const answer = pending(ann.get(`/jobs/${id}/result`, long))
  await ann.monitor(id)
  await service.steer(id, { do: 'fail', code: 'no-luck', message: 'No luck' })
  const { status, body } = await answer.result()
  t.equal(status, 424)
  t.equal(body.error.code, 'no-luck')
})

t.test('result: wait holds until the job ends, then 409 when it was canceled', async (t) => {
  const { id } = await ann.submit('/idle', { text: 'x' })
  const answer = pending(ann.get(`/jobs/${id}/result`, long))
  await ann.post(`/jobs/${id}/cancel`, undefined)
  const { status, body } = await answer.result()
  t.equal(status, 409)
  t.equal(body.error.code, 'operation-canceled')
})

t.test('result: 202 when N is over, and not before', async (t) => {
  const { id } = await ann.submit('/idle', { text: 'x' })
  const asked = performance.now()
  const { status, headers, body } = await ann.get(`/jobs/${id}/result`, short)
  t.ok(performance.now() - asked >= 990)
  t.equal(status, 202)
  t.equal(headers.location, `${service.api.url}/jobs/${id}/result`)
  t.equal(body.status, 'queued')
})

t.test('a malformed wait is ignored: the answer comes at once', async (t) => {
  const id = await ann.running()
  for (const prefer of ['wait=soon', 'wait=-1', 'wait']) {
    t.equal((await pending(ann.get(`/jobs/${id}`, { prefer })).result()).status, 200)
    t.equal((await pending(ann.get(`/jobs/${id}/result`, { prefer })).result()).status, 202)
  }
})

t.test('a job that is unknown or expired is answered without waiting', async (t) => {
  const id = await ann.endedAs('succeeded')
  t.equal((await pending(service.as('bob').get(`/jobs/${id}`, long)).result()).status, 404)
  await service.expire(id)
  t.equal((await pending(ann.get(`/jobs/${id}`, long)).result()).status, 410)
  t.equal((await pending(ann.get(`/jobs/${id}/result`, long)).result()).status, 410)
})
