import t from 'tap'
import { until } from '../support/until.ts'
import { idAt, serve } from './support.ts'

t.jobs = 4

// The estimate of a job is computed from the recent run time of its operation.
const recentRunSeconds = 20
const service = await serve(t, {
  prepare: `insert into accepted.run_time (operation, seconds) values ('estimated', ${recentRunSeconds});`,
})
const { api } = service
const ann = service.as('ann')

const day = 24 * 60 * 60 * 1000
const timestamp = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/
const finalStatuses = ['succeeded', 'failed', 'canceled'] as const

t.test('the id of a job is a UUIDv7 that contains the creation time', async (t) => {
  const before = Date.now()
  const { id } = await ann.submit('/idle', { text: 'x' })
  t.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  const createdAt = Number.parseInt(id.replaceAll('-', '').slice(0, 12), 16)
  t.ok(createdAt >= before - 1 && createdAt <= Date.now() + 1)
})

t.test('the member operation is the name of the operation', async (t) => {
  t.equal((await ann.submit('/notes', { text: 'x' })).operation, 'note.create')
})

t.test('the status is queued until a worker has claimed the job', async (t) => {
  t.equal((await ann.submit('/idle', { text: 'x' })).status, 'queued')
})

t.test('the status is running while the handler runs', async (t) => {
  const id = await ann.running()
  t.equal((await ann.monitor(id)).status, 'running')
})

for (const jobStatus of finalStatuses) {
  t.test(`the status of a ${jobStatus} job stays ${jobStatus}`, async (t) => {
    const id = await ann.endedAs(jobStatus)
    const first = await ann.monitor(id)
    t.equal(first.status, jobStatus)
    t.same(await ann.monitor(id), first)
  })

  t.test(`the status URL of a ${jobStatus} job answers 200 without Retry-After`, async (t) => {
    const { status, headers } = await ann.get(`/jobs/${await ann.endedAs(jobStatus)}`)
    t.equal(status, 200)
    t.equal(headers['retry-after'], undefined)
  })
}

t.test('between two attempts, a job is queued or running', async (t) => {
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

t.test('createdAt, updatedAt and expiresAt are UTC times that are present from the beginning', async (t) => {
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

t.test('startedAt is the time at which the first attempt began', async (t) => {
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

t.test('percentComplete is absent while the progress is unknown', async (t) => {
  t.notOk('percentComplete' in (await ann.submit('/idle', { text: 'x' })))
  t.notOk('percentComplete' in (await ann.monitor(await ann.running())))
})

t.test('percentComplete and message have the values that the handler reports', async (t) => {
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

t.test('percentComplete does not decrease during a second attempt', async (t) => {
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

t.test('estimatedCompletionAt is present if a recent run time of the operation is known', async (t) => {
  const { id } = await ann.submit('/estimated', {})
  const { estimatedCompletionAt, startedAt } = await ann.untilJob(id, (monitor) => monitor.estimatedCompletionAt)
  t.match(estimatedCompletionAt, timestamp)
  t.ok(estimatedCompletionAt > startedAt)
})

t.test('Retry-After is the estimated remaining time in seconds', async (t) => {
  const { id } = await ann.submit('/estimated', {})
  await ann.untilJob(id, (monitor) => monitor.estimatedCompletionAt)
  for (const path of [`/jobs/${id}`, `/jobs/${id}/result`]) {
    const { headers, body } = await ann.get(path)
    const remaining = (Date.parse(body.estimatedCompletionAt) - Date.now()) / 1000
    const retryAfter = Number(headers['retry-after'])
    t.ok(
      retryAfter >= Math.floor(remaining) && retryAfter <= recentRunSeconds,
      `Retry-After is ${retryAfter} s, and ${remaining} s remain`,
    )
    t.ok(retryAfter > 1)
  }
})

t.test('Retry-After is at most 30 seconds', async (t) => {
  const id = await ann.running()
  // If a job is at 1 % after one minute, the estimated remaining time is more than one hour.
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

t.test('Retry-After is 1 second if there is no estimate', async (t) => {
  const { id } = await ann.submit('/idle', { text: 'x' })
  const { headers, body } = await ann.get(`/jobs/${id}`)
  t.notOk('estimatedCompletionAt' in body)
  t.equal(headers['retry-after'], '1')
})

t.test('attempt is the number of the current attempt, and maxAttempts is its limit', async (t) => {
  t.match(await ann.submit('/steered', {}), { maxAttempts: 2 })
  const id = await ann.running()
  t.match(await ann.monitor(id), { attempt: 1, maxAttempts: 2 })
  await service.steer(id, { do: 'throw', message: 'once' })
  t.match(await ann.untilJob(id, ({ attempt }) => attempt === 2), { attempt: 2, maxAttempts: 2 })
  await service.steer(id, { do: 'throw', message: 'twice' })
  t.match(await ann.ended(id), { status: 'failed', attempt: 2, maxAttempts: 2 })
})

t.test('sequence increases with every visible change', async (t) => {
  const { id, ...queued } = await ann.submit('/steered', {})
  const seen = [queued]
  const remember = async (holds: (monitor: typeof queued) => unknown) => {
    seen.push(await ann.untilJob(id, holds))
  }
  await remember(({ status }) => status === 'running')
  await service.steer(id, { do: 'progress', percent: 10 })
  await remember(({ percentComplete }) => percentComplete === 10)
  await service.steer(id, { do: 'progress', percent: 10, message: 'message only' })
  await remember(({ message }) => message === 'message only')
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

t.test('monitors with the same sequence are equal, except for the estimate', async (t) => {
  const bySequence = new Map<number, Set<string>>()
  const id = await ann.running()
  await service.steer(
    id,
    { do: 'progress', percent: 30 },
    { do: 'progress', percent: 70, message: 'soon' },
    { do: 'succeed' },
  )
  await ann.untilJob(id, (monitor) => {
    // The API computes the estimate for each response. A new estimate does not change the sequence.
    const { sequence, estimatedCompletionAt: _, ...rest } = monitor
    bySequence.set(sequence, (bySequence.get(sequence) ?? new Set()).add(JSON.stringify(rest)))
    return monitor.endedAt
  })
  for (const [sequence, representations] of bySequence) t.equal(representations.size, 1, `sequence ${sequence}`)
})

t.test('cancelRequested is false until a client requests to cancel the running job', async (t) => {
  const id = await ann.running({ stubborn: true })
  t.equal((await ann.monitor(id)).cancelRequested, false)
  await ann.post(`/jobs/${id}/cancel`, undefined)
  t.equal((await ann.monitor(id)).cancelRequested, true)
})

t.test('resourceLocation is the absolute URL of the resource once the job has succeeded', async (t) => {
  const submitted = await ann.submit('/notes', { text: 'here' })
  t.notOk('resourceLocation' in submitted)
  const { resourceLocation } = await ann.ended(submitted.id)
  t.equal(resourceLocation, `${api.url}/notes/${submitted.id}`)
  t.match((await ann.get(resourceLocation)).body, { text: 'here' })
})

t.test('a handler can set resourceLocation', async (t) => {
  const id = await ann.running()
  await service.steer(id, { do: 'set resource', path: '/notes/elsewhere' }, { do: 'succeed' })
  t.equal((await ann.ended(id)).resourceLocation, `${api.url}/notes/elsewhere`)
})

t.test('resourceLocation is absent if the operation has no resource or the job was canceled', async (t) => {
  const { id } = await ann.submit('/sums', { numbers: [] })
  t.notOk('resourceLocation' in (await ann.ended(id)))
  t.notOk('resourceLocation' in (await ann.monitor(await ann.endedAs('canceled'))))
})

t.test('result is present once the job has succeeded', async (t) => {
  const submitted = await ann.submit('/sums', { numbers: [20, 22] })
  t.notOk('result' in submitted)
  t.same((await ann.ended(submitted.id)).result, { total: 42 })
})

t.test('result is absent for operations without a result', async (t) => {
  const { id } = await ann.submit('/quiet', {})
  const monitor = await ann.ended(id)
  t.equal(monitor.status, 'succeeded')
  t.notOk('result' in monitor)
})

t.test(
  'once the job has failed, error has the code, the message and the details that the handler declared',
  async (t) => {
    const id = await ann.running()
    t.notOk('error' in (await ann.monitor(id)))
    const details = [{ row: 7 }]
    await service.steer(id, { do: 'fail', code: 'smtp-rejected', message: 'No such mailbox', details })
    t.same((await ann.ended(id)).error, { code: 'smtp-rejected', message: 'No such mailbox', details })
  },
)

t.test('error is absent between two attempts', async (t) => {
  const id = await ann.running()
  await service.steer(id, { do: 'throw', message: 'once' })
  t.notOk('error' in (await ann.untilJob(id, ({ attempt }) => attempt === 2)))
})

t.test(
  'a job that has used up its attempts fails with a code and a message, without the text of its last error',
  async (t) => {
    const id = await ann.running()
    await service.steer(id, { do: 'throw', message: 'once' }, { do: 'throw', message: 'twice' })
    const { status, error } = await ann.ended(id)
    t.equal(status, 'failed')
    t.same(error, { code: 'handler-error', message: `The job failed. Its id is ${id}` })
  },
)

t.test('retryOf is the id of the job that was retried; a job that is not a retry has no retryOf', async (t) => {
  const id = await ann.endedAs('failed')
  t.notOk('retryOf' in (await ann.monitor(id)))
  const { body } = await ann.post(`/jobs/${id}/retry`, undefined)
  t.equal(body.retryOf, id)
  t.equal((await ann.monitor(body.id)).retryOf, id)
})

t.test('links contains the absolute URLs self, result, events, cancel and retry', async (t) => {
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

t.test('members without a value are absent, not null', async (t) => {
  const ids = await Promise.all([
    ann.submit('/idle', { text: 'x' }).then(({ id }) => id),
    ann.running(),
    ...finalStatuses.map((jobStatus) => ann.endedAs(jobStatus)),
  ])
  for (const id of ids) {
    const monitor = await ann.monitor(id)
    t.notOk(Object.values(monitor).includes(null), monitor.status)
    t.notMatch(JSON.stringify(monitor), /:null/)
  }
})

for (const jobStatus of ['queued', 'running']) {
  t.test(`the status URL of a ${jobStatus} job answers 200 with a Retry-After of at least 1 second`, async (t) => {
    const id = jobStatus === 'running' ? await ann.running() : (await ann.submit('/idle', { text: 'x' })).id
    const { status, headers, body } = await ann.get(`/jobs/${id}`)
    t.equal(status, 200)
    t.equal(body.status, jobStatus)
    t.match(headers['retry-after'], /^[1-9]\d*$/)
  })
}

t.test('the status URL never redirects, even if the job has a resource', async (t) => {
  const { id } = await ann.submit('/notes', { text: 'x' })
  await ann.ended(id)
  const { status, headers } = await ann.get(`/jobs/${id}`)
  t.equal(status, 200)
  t.equal(headers.location, undefined)
})

t.test('the status URL of a job whose record has expired answers 410', async (t) => {
  const id = await ann.endedAs('canceled')
  await service.expire(id)
  t.equal((await ann.get(`/jobs/${id}`)).status, 410)
})

t.test('the status URL of an unknown job answers 404', async (t) => {
  t.equal((await ann.get(`/jobs/${idAt(Date.now())}`)).status, 404)
})

t.test("the status URL answers the same 404 for another principal's job as for a job that never existed", async (t) => {
  const { id } = await ann.submit('/idle', { text: 'x' })
  const bob = service.as('bob')
  const theirs = await bob.get(`/jobs/${id}`)
  const none = await bob.get(`/jobs/${idAt(Date.now())}`)
  t.equal(theirs.status, 404)
  t.same({ ...theirs.body, instance: '' }, { ...none.body, instance: '' })
  t.notMatch(theirs.text, 'idle')
})

t.test("the status URL of another principal's expired job answers 404, not 410", async (t) => {
  const id = await ann.endedAs('canceled')
  await service.expire(id)
  t.equal((await service.as('bob').get(`/jobs/${id}`)).status, 404)
})

t.test('a request for the status URL without a principal gets 401', async (t) => {
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

t.test('a request with If-None-Match gets 304 without a body until the job changes, and then 200', async (t) => {
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

t.test('a request with If-None-Match also gets 304 after the job has ended', async (t) => {
  const id = await ann.endedAs('succeeded')
  const { etag } = (await ann.get(`/jobs/${id}`)).headers
  t.equal((await ann.get(`/jobs/${id}`, { 'if-none-match': etag })).status, 304)
})

t.test('HEAD answers like GET, but without a body', async (t) => {
  // Between two reads of a running job, its estimate may change.
  const id = await ann.endedAs('succeeded')
  const got = await ann.get(`/jobs/${id}`)
  const { status, headers, text } = await ann.request(`/jobs/${id}`, { method: 'HEAD' })
  t.equal(status, 200)
  t.equal(text, '')
  for (const name of ['content-type', 'content-length', 'etag', 'cache-control', 'vary', 'retry-after']) {
    t.equal(headers[name], got.headers[name], name)
  }
})

t.test('HEAD never waits, even with Prefer: wait', async (t) => {
  const { id } = await ann.submit('/idle', { text: 'x' })
  const { etag } = (await ann.get(`/jobs/${id}`)).headers
  // If HEAD waited, it would take 55 s, and the test would fail after 45 s.
  const requestHeaders = [{ prefer: 'wait=55' }, { prefer: 'wait=55', 'if-none-match': etag }]
  const statuses: number[] = []
  for (const headers of requestHeaders) {
    void ann.request(`/jobs/${id}`, { method: 'HEAD', headers }).then(({ status }) => statuses.push(status))
  }
  await until(() => statuses.length === requestHeaders.length)
  t.same(statuses.sort(), [200, 304])
})

t.test('unknown query parameters are ignored', async (t) => {
  const { id } = await ann.submit('/idle', { text: 'x' })
  const { status, body } = await ann.get(`/jobs/${id}?wait=5&_=1&x[]=%27`)
  t.equal(status, 200)
  t.equal(body.id, id)
})

t.test(
  'an id without a record gets 410 if the id is older than the longest retention; otherwise it gets 404',
  async (t) => {
    t.equal((await ann.get(`/jobs/${idAt(Date.now() - 400 * day)}`)).status, 410)
    t.equal((await ann.get(`/jobs/${idAt(Date.now() - day / 24)}`)).status, 404)
  },
)

t.test('a malformed id gets 404', async (t) => {
  for (const id of ['x', '0', "' or 1=1--", '00000000-0000-4000-8000-000000000000', 'a'.repeat(36)]) {
    t.equal((await ann.get(`/jobs/${encodeURIComponent(id)}`)).status, 404, id)
  }
})

t.test('problem details do not contain the numeric member `status`', async (t) => {
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
