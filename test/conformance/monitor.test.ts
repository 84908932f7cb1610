import t from 'tap'
import { until } from '../support/until.ts'
import { idAt, serve } from './support.ts'

t.jobs = 4

// What an operation took lately is what estimates are made from.
const usualSeconds = 20
const service = await serve(t, {
  prepare: `insert into accepted.run_time (operation, seconds) values ('estimated', ${usualSeconds});`,
})
const { api } = service
const ann = service.as('ann')

const day = 24 * 60 * 60 * 1000
const timestamp = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/
const states = ['succeeded', 'failed', 'canceled'] as const

t.test('id is a UUIDv7, and says when the job was made', async (t) => {
  const before = Date.now()
  const { id } = await ann.submit('/idle', { text: 'x' })
  t.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  const made = Number.parseInt(id.replaceAll('-', '').slice(0, 12), 16)
  t.ok(made >= before - 1 && made <= Date.now() + 1)
})

t.test('operation is the name of the operation', async (t) => {
  t.equal((await ann.submit('/notes', { text: 'x' })).operation, 'note.create')
})

t.test('status is queued before a worker has claimed the job', async (t) => {
  t.equal((await ann.submit('/idle', { text: 'x' })).status, 'queued')
})

t.test('status is running while the handler performs', async (t) => {
  const id = await ann.running()
  t.equal((await ann.monitor(id)).status, 'running')
})

for (const state of states) {
  t.test(`status is ${state} after such an end, and stays so`, async (t) => {
    const id = await ann.endedAs(state)
    const first = await ann.monitor(id)
    t.equal(first.status, state)
    t.same(await ann.monitor(id), first)
  })

  t.test(
    `a job that has ${state === 'canceled' ? 'been ' : ''}${state}: the monitor is 200 and has no Retry-After`,
    async (t) => {
      const { status, headers } = await ann.get(`/jobs/${await ann.endedAs(state)}`)
      t.equal(status, 200)
      t.equal(headers['retry-after'], undefined)
    },
  )
}

t.test('a job that waits for its retry is queued or running, never anything else', async (t) => {
  const id = await ann.running()
  const seen = new Set<string>()
  await service.steer(id, { do: 'throw', message: 'once' })
  await ann.untilJob(id, ({ status, attempt }) => {
    seen.add(status)
    return attempt === 2
  })
  t.same(
    [...seen].filter((status) => status !== 'queued' && status !== 'running'),
    [],
  )
})

t.test('createdAt, updatedAt and expiresAt are there from the beginning, in UTC', async (t) => {
  const { createdAt, updatedAt, expiresAt } = await ann.submit('/idle', { text: 'x' })
  for (const time of [createdAt, updatedAt, expiresAt]) t.match(time, timestamp)
  t.ok(Date.parse(expiresAt) > Date.now())
})

t.test('startedAt is absent until the job has started', async (t) => {
  t.notOk('startedAt' in (await ann.submit('/idle', { text: 'x' })))
  const { startedAt, createdAt } = await ann.monitor(await ann.running())
  t.match(startedAt, timestamp)
  t.ok(startedAt >= createdAt)
})

t.test('startedAt is when the first attempt began', async (t) => {
  const id = await ann.running()
  const { startedAt } = await ann.monitor(id)
  await service.steer(id, { do: 'throw', message: 'once' })
  const second = await ann.untilJob(id, ({ attempt, status }) => attempt === 2 && status === 'running')
  t.equal(second.startedAt, startedAt)
})

t.test('endedAt is absent until the job has ended', async (t) => {
  const id = await ann.running()
  t.notOk('endedAt' in (await ann.monitor(id)))
  await service.steer(id, { do: 'succeed' })
  const { endedAt, startedAt } = await ann.ended(id)
  t.match(endedAt, timestamp)
  t.ok(endedAt >= startedAt)
})

t.test('percentComplete is absent when unknown', async (t) => {
  t.notOk('percentComplete' in (await ann.submit('/idle', { text: 'x' })))
  t.notOk('percentComplete' in (await ann.monitor(await ann.running())))
})

t.test('percentComplete and message are what the handler reports', async (t) => {
  const id = await ann.running()
  await service.steer(id, { do: 'progress', percent: 40, message: 'half way' })
  const monitor = await ann.untilJob(id, ({ percentComplete }) => percentComplete !== undefined)
  t.match(monitor, { status: 'running', percentComplete: 40, message: 'half way' })
})

t.test('percentComplete is an integer', async (t) => {
  const id = await ann.running()
  await service.steer(id, { do: 'progress', percent: 33.4 })
  const monitor = await ann.untilJob(id, ({ percentComplete }) => percentComplete !== undefined)
  t.equal(monitor.percentComplete, 33)
})

t.test('percentComplete never decreases', async (t) => {
  const id = await ann.running()
  await service.steer(id, { do: 'progress', percent: 60, message: 'up' })
  await ann.untilJob(id, ({ message }) => message === 'up')
  await service.steer(id, { do: 'progress', percent: 20, message: 'down' })
  const monitor = await ann.untilJob(id, ({ message }) => message === 'down')
  t.equal(monitor.percentComplete, 60)
})

t.test('percentComplete does not decrease in a second attempt', async (t) => {
  const id = await ann.running()
  await service.steer(id, { do: 'progress', percent: 60, message: 'first' })
  await ann.untilJob(id, ({ message }) => message === 'first')
  await service.steer(id, { do: 'throw', message: 'again' })
  const seen: (number | undefined)[] = []
  await service.steer(id, { do: 'progress', percent: 10, message: 'second' })
  await ann.untilJob(id, ({ message, percentComplete }) => {
    seen.push(percentComplete)
    return message === 'second'
  })
  t.same(new Set(seen), new Set([60]))
})

t.test('estimatedCompletionAt is when the job will probably have ended', async (t) => {
  const { id } = await ann.submit('/estimated', {})
  const { estimatedCompletionAt, startedAt } = await ann.untilJob(id, (monitor) => monitor.estimatedCompletionAt)
  t.match(estimatedCompletionAt, timestamp)
  t.ok(estimatedCompletionAt > startedAt)
})

t.test('Retry-After follows the estimate: what remains, in seconds', async (t) => {
  const { id } = await ann.submit('/estimated', {})
  await ann.untilJob(id, (monitor) => monitor.estimatedCompletionAt)
  for (const path of [`/jobs/${id}`, `/jobs/${id}/result`]) {
    const { headers, body } = await ann.get(path)
    const remaining = (Date.parse(body.estimatedCompletionAt) - Date.now()) / 1000
    const retryAfter = Number(headers['retry-after'])
    t.ok(retryAfter >= Math.floor(remaining) && retryAfter <= usualSeconds, `${retryAfter}, and ${remaining} s remain`)
    t.ok(retryAfter > 1)
  }
})

t.test('Retry-After is 30 at most', async (t) => {
  const id = await ann.running()
  // A hundredth in a minute.
  await service.steer(id, { do: 'progress', percent: 1, message: 'slow' })
  await ann.untilJob(id, ({ percentComplete }) => percentComplete === 1)
  await service.pool.query(
    `update accepted.job set attempt_started_at = now() - interval '1 min', started_at = now() - interval '1 min'
     where id = $1`,
    [id],
  )
  const { headers } = await ann.get(`/jobs/${id}`)
  t.equal(headers['retry-after'], '30')
})

t.test('Retry-After is 1 when there is no estimate', async (t) => {
  const { id } = await ann.submit('/idle', { text: 'x' })
  const { headers, body } = await ann.get(`/jobs/${id}`)
  t.notOk('estimatedCompletionAt' in body)
  t.equal(headers['retry-after'], '1')
})

t.test('attempt counts the attempts, up to maxAttempts', async (t) => {
  t.match(await ann.submit('/steered', {}), { maxAttempts: 2 })
  const id = await ann.running()
  t.match(await ann.monitor(id), { attempt: 1, maxAttempts: 2 })
  await service.steer(id, { do: 'throw', message: 'once' })
  t.match(await ann.untilJob(id, ({ attempt }) => attempt === 2), { attempt: 2, maxAttempts: 2 })
  await service.steer(id, { do: 'throw', message: 'twice' })
  t.match(await ann.ended(id), { status: 'failed', attempt: 2, maxAttempts: 2 })
})

t.test('sequence grows with every visible change', async (t) => {
  const { id, ...queued } = await ann.submit('/steered', {})
  const seen = [queued]
  const remember = async (holds: (monitor: typeof queued) => unknown) => {
    seen.push(await ann.untilJob(id, holds))
  }
  await remember(({ status }) => status === 'running')
  await service.steer(id, { do: 'progress', percent: 10 })
  await remember(({ percentComplete }) => percentComplete === 10)
  await service.steer(id, { do: 'progress', percent: 10, message: 'only words' })
  await remember(({ message }) => message === 'only words')
  await service.steer(id, { do: 'throw', message: 'once' })
  await remember(({ attempt }) => attempt === 2)
  await service.steer(id, { do: 'succeed' })
  await remember(({ endedAt }) => endedAt)
  const sequences = seen.map(({ sequence }) => sequence)
  t.same(
    sequences,
    [...new Set(sequences)].sort((a, b) => a - b),
  )
  t.equal(sequences.length, 6)
})

t.test('a sequence is one representation: what looks different has another one', async (t) => {
  const bySequence = new Map<number, Set<string>>()
  const id = await ann.running()
  await service.steer(
    id,
    { do: 'progress', percent: 30 },
    { do: 'progress', percent: 70, message: 'soon' },
    { do: 'succeed' },
  )
  await ann.untilJob(id, (monitor) => {
    // An estimate is made anew for each answer.
    const { sequence, estimatedCompletionAt: _, ...rest } = monitor
    bySequence.set(sequence, (bySequence.get(sequence) ?? new Set()).add(JSON.stringify(rest)))
    return monitor.endedAt
  })
  for (const [sequence, representations] of bySequence) t.equal(representations.size, 1, `sequence ${sequence}`)
})

t.test('cancelRequested is false, and true once somebody has asked to cancel a running job', async (t) => {
  const id = await ann.running({ stubborn: true })
  t.equal((await ann.monitor(id)).cancelRequested, false)
  await ann.post(`/jobs/${id}/cancel`, undefined)
  t.equal((await ann.monitor(id)).cancelRequested, true)
})

t.test('resourceLocation is there once the job has succeeded, absolute, and leads to the resource', async (t) => {
  const submitted = await ann.submit('/notes', { text: 'here' })
  t.notOk('resourceLocation' in submitted)
  const { resourceLocation } = await ann.ended(submitted.id)
  t.equal(resourceLocation, `${api.url}/notes/${submitted.id}`)
  t.match((await ann.get(resourceLocation)).body, { text: 'here' })
})

t.test('resourceLocation may be named by the handler', async (t) => {
  const id = await ann.running()
  await service.steer(id, { do: 'point at', path: '/notes/elsewhere' }, { do: 'succeed' })
  t.equal((await ann.ended(id)).resourceLocation, `${api.url}/notes/elsewhere`)
})

t.test('resourceLocation is absent when the operation names no resource, and when it was canceled', async (t) => {
  const { id } = await ann.submit('/sums', { numbers: [] })
  t.notOk('resourceLocation' in (await ann.ended(id)))
  t.notOk('resourceLocation' in (await ann.monitor(await ann.endedAs('canceled'))))
})

t.test('result is there once the job has succeeded', async (t) => {
  const submitted = await ann.submit('/sums', { numbers: [20, 22] })
  t.notOk('result' in submitted)
  t.same((await ann.ended(submitted.id)).result, { total: 42 })
})

t.test('result is absent when the operation returns none', async (t) => {
  const { id } = await ann.submit('/quiet', {})
  const monitor = await ann.ended(id)
  t.equal(monitor.status, 'succeeded')
  t.notOk('result' in monitor)
})

t.test('error is there once the job has failed: code, message and details as the handler gave them', async (t) => {
  const id = await ann.running()
  t.notOk('error' in (await ann.monitor(id)))
  const details = [{ row: 7 }]
  await service.steer(id, { do: 'fail', code: 'smtp-rejected', message: 'No such mailbox', details })
  t.same((await ann.ended(id)).error, { code: 'smtp-rejected', message: 'No such mailbox', details })
})

t.test('error is absent between two attempts', async (t) => {
  const id = await ann.running()
  await service.steer(id, { do: 'throw', message: 'once' })
  t.notOk('error' in (await ann.untilJob(id, ({ attempt }) => attempt === 2)))
})

t.test('a job whose attempts are used up has failed, with a code and a message', async (t) => {
  const id = await ann.running()
  await service.steer(id, { do: 'throw', message: 'once' }, { do: 'throw', message: 'twice' })
  const { status, error } = await ann.ended(id)
  t.equal(status, 'failed')
  t.type(error.code, 'string')
  t.match(error.message, 'twice')
})

t.test('retryOf is the job that this one is a retry of, and absent otherwise', async (t) => {
  const id = await ann.endedAs('failed')
  t.notOk('retryOf' in (await ann.monitor(id)))
  const { body } = await ann.post(`/jobs/${id}/retry`, undefined)
  t.equal(body.retryOf, id)
  t.equal((await ann.monitor(body.id)).retryOf, id)
})

t.test('links are absolute and lead to the monitor, the result, the events, cancel and retry', async (t) => {
  const { id, links } = await ann.submit('/idle', { text: 'x' })
  const self = `${api.url}/jobs/${id}`
  const all = {
    self,
    result: `${self}/result`,
    events: `${self}/events`,
    cancel: `${self}/cancel`,
    retry: `${self}/retry`,
  }
  t.match(links, all)
})

t.test('members that have no value are absent, not null', async (t) => {
  const ids = await Promise.all([
    ann.submit('/idle', { text: 'x' }).then(({ id }) => id),
    ann.running(),
    ...states.map((state) => ann.endedAs(state)),
  ])
  for (const id of ids) {
    const monitor = await ann.monitor(id)
    t.notOk(Object.values(monitor).includes(null), monitor.status)
    t.notMatch(JSON.stringify(monitor), /:null/)
  }
})

for (const state of ['queued', 'running']) {
  t.test(`${state}: the monitor is 200 with a Retry-After that is an integer of at least 1`, async (t) => {
    const id = state === 'running' ? await ann.running() : (await ann.submit('/idle', { text: 'x' })).id
    const { status, headers, body } = await ann.get(`/jobs/${id}`)
    t.equal(status, 200)
    t.equal(body.status, state)
    t.match(headers['retry-after'], /^[1-9]\d*$/)
  })
}

t.test('the monitor never redirects, also when the job has made a resource', async (t) => {
  const { id } = await ann.submit('/notes', { text: 'x' })
  await ann.ended(id)
  const { status, headers } = await ann.get(`/jobs/${id}`)
  t.equal(status, 200)
  t.equal(headers.location, undefined)
})

t.test('a record that has expired: 410', async (t) => {
  const id = await ann.endedAs('canceled')
  await service.expire(id)
  t.equal((await ann.get(`/jobs/${id}`)).status, 410)
})

t.test('an unknown job: 404', async (t) => {
  t.equal((await ann.get(`/jobs/${idAt(Date.now())}`)).status, 404)
})

t.test("someone else's job: 404, like one that never was", async (t) => {
  const { id } = await ann.submit('/idle', { text: 'x' })
  const bob = service.as('bob')
  const theirs = await bob.get(`/jobs/${id}`)
  const none = await bob.get(`/jobs/${idAt(Date.now())}`)
  t.equal(theirs.status, 404)
  t.same({ ...theirs.body, instance: '' }, { ...none.body, instance: '' })
  t.notMatch(theirs.text, 'idle')
})

t.test("someone else's expired job: 404, like one that never was", async (t) => {
  const id = await ann.endedAs('canceled')
  await service.expire(id)
  t.equal((await service.as('bob').get(`/jobs/${id}`)).status, 404)
})

t.test('without a principal: 401', async (t) => {
  const { id } = await ann.submit('/idle', { text: 'x' })
  t.equal((await service.as('nobody').get(`/jobs/${id}`)).status, 401)
})

t.test('ETag is the sequence in quotes', async (t) => {
  const { headers, body } = await ann.get(`/jobs/${await ann.running()}`)
  t.equal(headers.etag, `"${body.sequence}"`)
})

t.test('Cache-Control is private, no-cache', async (t) => {
  const { headers } = await ann.get(`/jobs/${await ann.running()}`)
  t.equal(headers['cache-control'], 'private, no-cache')
})

t.test('Vary is Accept, Prefer, Authorization', async (t) => {
  const { headers } = await ann.get(`/jobs/${await ann.running()}`)
  t.equal(headers.vary, 'Accept, Prefer, Authorization')
})

t.test('If-None-Match: 304 without a body as long as the job has not changed, and 200 when it has', async (t) => {
  const id = await ann.running()
  const { etag } = (await ann.get(`/jobs/${id}`)).headers
  for (const tag of [etag, `W/${etag}`, `"0", ${etag}`, '*']) {
    const { status, headers, text } = await ann.get(`/jobs/${id}`, { 'if-none-match': tag })
    t.equal(status, 304, `${tag}`)
    t.equal(text, '')
    t.equal(headers.etag, etag)
  }
  await service.steer(id, { do: 'succeed' })
  await ann.ended(id)
  const { status, headers } = await ann.get(`/jobs/${id}`, { 'if-none-match': etag })
  t.equal(status, 200)
  t.not(headers.etag, etag)
})

t.test('If-None-Match is 304 at the end, too', async (t) => {
  const id = await ann.endedAs('succeeded')
  const { etag } = (await ann.get(`/jobs/${id}`)).headers
  t.equal((await ann.get(`/jobs/${id}`, { 'if-none-match': etag })).status, 304)
})

t.test('HEAD answers what GET does, without a body', async (t) => {
  const id = await ann.running()
  const got = await ann.get(`/jobs/${id}`)
  const { status, headers, text } = await ann.request(`/jobs/${id}`, { method: 'HEAD' })
  t.equal(status, 200)
  t.equal(text, '')
  for (const name of ['content-type', 'content-length', 'etag', 'cache-control', 'vary', 'retry-after']) {
    t.equal(headers[name], got.headers[name], name)
  }
})

t.test('HEAD never waits', async (t) => {
  const { id } = await ann.submit('/idle', { text: 'x' })
  const { etag } = (await ann.get(`/jobs/${id}`)).headers
  // Longer than a test is patient.
  const waiting = [{ prefer: 'wait=55' }, { prefer: 'wait=55', 'if-none-match': etag }]
  const statuses: number[] = []
  for (const headers of waiting) {
    void ann.request(`/jobs/${id}`, { method: 'HEAD', headers }).then(({ status }) => statuses.push(status))
  }
  await until(() => statuses.length === waiting.length)
  t.same(statuses.sort(), [200, 304])
})

t.test('unknown query parameters are ignored', async (t) => {
  const { id } = await ann.submit('/idle', { text: 'x' })
  const { status, body } = await ann.get(`/jobs/${id}?wait=5&_=1&x[]=%27`)
  t.equal(status, 200)
  t.equal(body.id, id)
})

t.test('a well-formed id with no record is 410 when it is older than the longest retention, else 404', async (t) => {
  t.equal((await ann.get(`/jobs/${idAt(Date.now() - 400 * day)}`)).status, 410)
  t.equal((await ann.get(`/jobs/${idAt(Date.now() - day / 24)}`)).status, 404)
})

t.test('a malformed id is 404', async (t) => {
  for (const id of ['x', '0', "' or 1=1--", '00000000-0000-4000-8000-000000000000', 'a'.repeat(36)]) {
    t.equal((await ann.get(`/jobs/${encodeURIComponent(id)}`)).status, 404, id)
  }
})

t.test('problem bodies carry no numeric status', async (t) => {
  const expired = await ann.endedAs('canceled')
  await service.expire(expired)
  for (const [path, expected] of [
    [`/jobs/${idAt(Date.now())}`, 404],
    ['/jobs/x', 404],
    [`/jobs/${expired}`, 410],
    [`/jobs/${expired}/result`, 410],
    [`/jobs/${await ann.endedAs('failed')}/result`, 424],
    [`/jobs/${await ann.endedAs('canceled')}/result`, 409],
  ] as const) {
    const { status, body } = await ann.get(path)
    t.equal(status, expected)
    t.not(typeof body.status, 'number', path)
  }
})
