import { defineOperation } from 'accepted'
import t from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import { createKey, type NewApiKey } from '../../../src/jobs/api-key.ts'
import { createEndpoint } from '../../../src/jobs/webhook-endpoint.ts'
import { serve } from '../../support/api.ts'
import { ConsoleClient } from './client.ts'

const note = defineOperation({ name: 'note.create', input: Type.Object({}) })
/** What a person, a client or an endpoint has chosen to make a page run a script. */
const hostile = `"><script>alert(1)</script><img src=x onerror='alert(1)'>&amp;`
const escaped = '&lt;script&gt;alert(1)&lt;/script&gt;'

const { url, database } = await serve(t, { operations: { note }, rateLimit: false }, undefined, 'console')
const query = async (text: string, values: unknown[] = []) => (await database.pool.query(text, values)).rows
const addKey = (key: Partial<NewApiKey>) =>
  database.kysely.transaction().execute((trx) => createKey(trx as never, { name: 'key', ...key } as NewApiKey))
const { id: keyId, key } = await addKey({ principal: 'olga', scopes: ['operate'] })

const browser = new ConsoleClient(url)

const lastAudit = async () =>
  (await query('select role, key_id, principal, action, object from accepted.audit order by id desc limit 1'))[0]

await browser.signIn(key)
await query(
  `insert into accepted.schedule (name, operation, expression, timezone, next_at, later_at) values
    ('nightly', 'note.create', '0 3 * * *', 'Europe/Berlin', '2039-01-01 02:00Z', '{2039-01-02 02:00Z,2039-01-03 02:00Z}'),
    ($1, $1, $1, $1, null, '{}')`,
  [hostile],
)
const endpoint = await database.kysely
  .transaction()
  .execute((trx) => createEndpoint(trx as never, { url: 'http://127.0.0.1:11998/?a="><script>alert(1)</script>' }))

t.test('schedules are paused, resumed, run and backfilled, and each act is recorded', async (t) => {
  const list = (await browser.send('/console/schedules')).body
  t.match(list, 'href="/console/schedules/nightly"')
  const page = '/console/schedules/nightly'
  const shown = (await browser.send(page)).body
  for (const text of ['2039-01-01 02:00:00 UTC', '2039-01-03 02:00:00 UTC', '1 Jan 2039, 03:00:00'])
    t.match(shown, text)

  const by = { role: 'accepted_operator', key_id: keyId, principal: 'olga', object: 'nightly' }
  t.match(await browser.act(`${page}/pause`, { back: page, reason: hostile }), /nightly is paused/)
  t.match(await lastAudit(), { ...by, action: 'schedule.paused' })
  const paused = (await browser.send(page)).body
  t.match(paused, escaped)
  t.notMatch(paused, /<script>alert|<img/)
  t.match(await browser.act(`${page}/resume`), /nightly is resumed/)
  t.match(await lastAudit(), { ...by, action: 'schedule.resumed' })
  t.match(await browser.act(`${page}/run`), /A worker creates the job [\da-f-]{36} within/)
  t.match(await lastAudit(), { ...by, action: 'schedule.run' })
  const range = { since: '2026-01-01T00:00', until: '2026-02-01T00:00', max_jobs: '7' }
  t.match(await browser.act(`${page}/backfill`, range), /creates the batch [\da-f-]{36} with the missed jobs/)
  t.match(await lastAudit(), { ...by, action: 'schedule.backfilled' })
  t.match(await query('select since, until, max_jobs from accepted.schedule_request order by id'), [
    { since: null, until: null, max_jobs: null },
    { since: new Date('2026-01-01T00:00Z'), until: new Date('2026-02-01T00:00Z'), max_jobs: 7 },
  ])
  t.match((await browser.send(page)).body, '2 requested runs wait')
  for (const [form, text] of [
    [{ ...range, since: 'x' }, /role="alert">From is not a time/],
    [{ ...range, since: '2026-03-01T00:00' }, /role="alert">Since is not a time before until/],
    [{ ...range, max_jobs: '0' }, /role="alert">Max_jobs is not between/],
  ] as const) {
    t.match(await browser.act(`${page}/backfill`, form), text)
  }
  t.match(await browser.act('/console/schedules/none/run'), /role="alert">There is no schedule/)
  t.equal((await browser.send('/console/schedules/none')).status, 404)
})

t.test('the page of an endpoint shows its breaker and its log, and sends again', async (t) => {
  const page = `/console/webhooks/${endpoint.id}`
  t.match((await browser.send('/console/webhooks')).body, `href="${page}"`)
  t.match(await browser.act(`${page}/test`, { back: page }), 'A test event is on its way')
  const by = { role: 'accepted_operator', key_id: keyId, principal: 'olga', object: endpoint.id }
  t.match(await lastAudit(), { ...by, action: 'webhook.tested' })

  const [{ id: job }] = await query(`select accepted.enqueue('note.create') as id`)
  const refused = await browser.act(`${page}/resend`, { back: page, job })
  t.match(refused, /role="alert">The job [\da-f-]+ has not ended/)
  await query('select accepted.cancel($1)', [job])
  t.match(await browser.act(`${page}/resend`, { back: page, job }), 'on its way again')
  t.match(await lastAudit(), { ...by, action: 'webhook.resent' })

  const [{ id: delivery }] = await query(
    `select id from accepted.job where operation = 'webhook.deliver' order by id desc limit 1`,
  )
  const report = { jobId: job, status: 500, durationMs: 1_234, answer: hostile }
  await query('insert into accepted.attempt (job_id, attempt, error) values ($1, 1, $2)', [
    delivery,
    { code: 'endpoint-refused', message: hostile, details: [report] },
  ])
  await query(
    `update accepted.webhook_endpoint set consecutive_failures = 6, opened_at = now(), probe_at = now() + interval '9 seconds'
    where id = $1`,
    [endpoint.id],
  )
  const log = (await browser.send(page)).body
  for (const text of ['Failing', '6 failures in a row', '500', '1.2 s', escaped, `name="job" value="${job}"`]) {
    t.match(log, text)
  }
  t.notMatch(log, /<script>alert|<img/)
  for (const path of [`/console/webhooks/${uuid7()}`, '/console/webhooks/x'])
    t.equal((await browser.send(path)).status, 404)
  t.match(await browser.act(`/console/webhooks/${uuid7()}/test`), /role="alert">There is no webhook endpoint/)
})

t.test('the audit is filtered and paged, and shows hostile text as text', async (t) => {
  await query(`insert into accepted.audit (at, role, principal, action, object)
    select '2026-01-01Z'::timestamptz + n * interval '1 minute', 'someone', case when n % 150 = 0 then 'ann' else 'bob' end,
      case when n % 2 = 0 then 'cancel' else 'retry' end, 'x-' || n from generate_series(1, 300) n`)
  await query(`insert into accepted.audit (role, principal, action, object) values ($1, $1, $1, $1)`, [hostile])
  const objects = async (path: string) => {
    const { body } = await browser.send(path)
    const [, next] = body.match(/<a href="([^"]+)" rel="next">/) ?? []
    const shown = Array.from(body.matchAll(/>(x-\d+)</g), ([, object]: string[]) => object)
    return { body, shown, next: next?.replaceAll('&amp;', '&') }
  }
  const until = 'until=2026-01-02T00:00'
  const first = await objects(`/console/audit?${until}`)
  t.same(
    first.shown,
    Array.from({ length: 100 }, (_, index) => `x-${300 - index}`),
  )
  const second = await objects(first.next as string)
  const third = await objects(second.next as string)
  t.same(third.shown.at(-1), 'x-1')
  t.equal(third.next, undefined)
  t.equal(new Set([...first.shown, ...second.shown, ...third.shown]).size, 300)
  t.same((await objects(`/console/audit?${until}&principal=ann`)).shown, ['x-300', 'x-150'])
  t.same((await objects('/console/audit?object=x-7')).shown, ['x-7'])
  t.same((await objects('/console/audit?object=x-7&action=cancel')).shown, [])
  t.same((await objects('/console/audit?since=2026-01-01T00:10&until=2026-01-01T00:12')).shown, ['x-11', 'x-10'])
  const newest = (await objects('/console/audit')).body
  t.match(newest, escaped)
  t.notMatch(newest, /<script>alert|<img/)
  t.match(newest, 'href="/console/schedules/nightly"')
  for (const path of ['/console/audit?before=x&since=x', '/console/audit?before=999999999999999999']) {
    t.equal((await browser.send(path)).status, 200, path)
  }
  for (const name of ['principal', 'action', 'object']) {
    const { body } = await objects(`/console/audit?${name}=${encodeURIComponent(hostile)}`)
    t.notMatch(body, /<script>alert|<img/, name)
  }
})

t.test('only operators of the own origin get there, and nothing is changed otherwise', async (t) => {
  const [{ count: before }] = await query('select count(*) from accepted.audit')
  const forms = [
    ...['pause', 'resume', 'run', 'backfill'].map((name) => `/console/schedules/nightly/${name}`),
    ...['test', 'resend'].map((name) => `/console/webhooks/${endpoint.id}/${name}`),
  ]
  for (const path of forms) {
    t.equal((await browser.send(path, {}, { 'sec-fetch-site': 'cross-site' })).status, 403, path)
    t.match(await browser.send(path, {}, { cookie: '' }), { status: 303, location: /\/console\/login/ }, path)
  }
  for (const path of ['/console/schedules', '/console/webhooks', '/console/audit']) {
    t.match(await browser.send(path, undefined, { cookie: '' }), { status: 303, location: /\/console\/login/ }, path)
  }
  t.same(await query('select count(*) from accepted.audit'), [{ count: before }])
})
