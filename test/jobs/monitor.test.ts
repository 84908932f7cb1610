import t from 'tap'
import Value from 'typebox/value'
import type { Job } from '../../src/jobs/job.ts'
import { retryAfterSeconds, toAbsoluteUrl, toMonitor } from '../../src/jobs/monitor.ts'
import { Monitor } from '../../src/jobs/monitor-schema.ts'
import { siteAt } from '../../src/jobs/site.ts'

const origin = 'https://api.example.com'
const site = siteAt(origin)
const at = new Date('2026-01-02T03:04:05.678Z')
const id = '019b7d2e-0000-7000-8000-000000000000'

const row = (more: Partial<Job> = {}): Job => ({
  ...{ id, operation: 'todo.create', status: 'queued', principal: 'ann', resource: null, percent: null, message: null },
  ...{ attempt: 0, max_attempts: 4, sequence: '1', result: null, error: null, coalesced: 0, cancel_requested: false },
  ...{
    retry_of: null,
    parent: null,
    children: null,
    waiting_for: null,
    created_at: at,
    started_at: null,
    updated_at: at,
    ended_at: null,
    expires_at: at,
  },
  progress_at: null,
  progress_base: null,
  attempt_started_at: null,
  ...more,
})

t.test('the monitor leaves out members without a value, and matches its schema', async (t) => {
  const monitor = toMonitor(row(), site)
  t.same(monitor, {
    ...{ id, operation: 'todo.create', status: 'queued' },
    ...{ createdAt: at.toISOString(), updatedAt: at.toISOString(), expiresAt: at.toISOString() },
    ...{ attempt: 0, maxAttempts: 4, sequence: 1, cancelRequested: false },
    links: {
      self: `${origin}/jobs/${id}`,
      result: `${origin}/jobs/${id}/result`,
      events: `${origin}/jobs/${id}/events`,
      cancel: `${origin}/jobs/${id}/cancel`,
      retry: `${origin}/jobs/${id}/retry`,
    },
  })
  t.ok(Value.Check(Monitor, monitor))
})

t.test('the monitor shows result and resource only after the job has succeeded', async (t) => {
  const outcome = { resource: '/todos/1', result: { ok: true } }
  for (const status of ['queued', 'running', 'failed', 'canceled'] as const) {
    const monitor = toMonitor(row({ ...outcome, status }), site)
    t.notOk('resourceLocation' in monitor || 'result' in monitor, status)
  }
  const monitor = toMonitor(row({ ...outcome, status: 'succeeded', started_at: at, ended_at: at, percent: 100 }), site)
  t.match(monitor, { resourceLocation: `${origin}/todos/1`, result: { ok: true }, percentComplete: 100 })
  t.match(monitor, { startedAt: at.toISOString(), endedAt: at.toISOString() })
  t.ok(Value.Check(Monitor, monitor))
})

t.test("the monitor shows an inline result of false, 0 or '', and a percentage of 0", async (t) => {
  for (const result of [false, 0, '']) t.equal(toMonitor(row({ status: 'succeeded', result }), site).result, result)
  t.equal(toMonitor(row({ percent: 0 }), site).percentComplete, 0)
})

t.test('the monitor shows how many further requests share the job, if there are any', async (t) => {
  const monitor = toMonitor(row({ coalesced: 3 }), site)
  t.equal(monitor.coalesced, 3)
  t.ok(Value.Check(Monitor, monitor))
})

t.test('the monitor shows the error without its HTTP status, which only the result URL uses', async (t) => {
  const shown = (error: Job['error']) => toMonitor(row({ status: 'failed', error }), site).error
  t.same(shown({ code: 'c', message: 'm', public: true, status: 409, details: [1] }), {
    code: 'c',
    message: 'm',
    details: [1],
  })
  t.same(shown({ code: 'c', message: 'm', public: true, details: [] }), { code: 'c', message: 'm' })
})

t.test('the details of children-failed name a child, without what its handler has thrown', async (t) => {
  const child = { id: '019b7d2e-0000-7000-8000-000000000001', operation: 'todo.save', status: 'failed' } as const
  const href = `${origin}/jobs/${child.id}`
  const shown = (error?: NonNullable<Job['error']>) => {
    const failed = {
      code: 'children-failed',
      message: 'm',
      public: true,
      child: { ...child, ...(error && { error }) },
    } as const
    const monitor = toMonitor(row({ status: 'failed', error: failed }), site)
    t.ok(Value.Check(Monitor, monitor))
    return monitor.error
  }
  const error = { code: 'no-photo', message: 'It is no photo' }
  t.same(shown({ ...error, public: true }), {
    ...{ code: 'children-failed', message: 'm' },
    details: [{ ...child, href, error }],
  })
  const hidden = { code: 'handler-error', message: `The job failed. Its id is ${child.id}` }
  t.same(shown({ code: 'handler-error', message: 'connect db.internal' })?.details, [{ ...child, href, error: hidden }])
  t.same(shown()?.details, [{ ...child, href }])
})

t.test('a resource may be the URL of another service', async (t) => {
  t.equal(toAbsoluteUrl('https://elsewhere.example.com/1', site), 'https://elsewhere.example.com/1')
  t.equal(toAbsoluteUrl('/todos/1', site), `${origin}/todos/1`)
})

t.test('a resource that would run a script in the page that links to it is a path', async (t) => {
  for (const base of [site, siteAt('')]) {
    for (const resource of ['javascript:alert(1)', 'JavaScript:alert(1)', 'data:text/html,x', 'vbscript:x', 'blob:x']) {
      t.equal(toAbsoluteUrl(resource, base), `${base.url}/${resource}`)
    }
    for (const resource of [' javascript:alert(1)', 'java\tscript:alert(1)', '\u0001javascript:alert(1)']) {
      t.notMatch(toAbsoluteUrl(resource, base), /^javascript:/i, resource)
    }
  }
  t.equal(toAbsoluteUrl('s3://bucket/1', site), 's3://bucket/1')
})

t.test('Retry-After is set until the job has ended', async (t) => {
  for (const status of ['queued', 'running'] as const) t.equal(retryAfterSeconds(row({ status })), 1)
  for (const status of ['succeeded', 'failed', 'canceled'] as const)
    t.equal(retryAfterSeconds(row({ status })), undefined)
})

t.test('links and resources start with the base URL and the path of the jobs', (t) => {
  const mounted = siteAt('https://example.com/api/', '/work')
  const { links, resourceLocation } = toMonitor(row({ status: 'succeeded', resource: '/todos/1' }), mounted)
  t.equal(links.self, `https://example.com/api/work/${row().id}`)
  t.equal(links.result, `https://example.com/api/work/${row().id}/result`)
  t.equal(resourceLocation, 'https://example.com/api/todos/1')
  t.equal(toAbsoluteUrl('todos/1', mounted), 'https://example.com/api/todos/1')
  t.equal(toAbsoluteUrl('//evil.example.com/1', mounted), 'https://example.com/api//evil.example.com/1')
  t.end()
})
