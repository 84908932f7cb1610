import { defineOperation } from 'accepted'
import { defineHandlers } from 'accepted/worker'
import t from 'tap'
import Type from 'typebox'
import { serve } from '../../support/api.ts'
import { openJobs } from '../../support/jobs.ts'
import { ConsoleClient } from './client.ts'

const note = defineOperation({ name: 'note.create', input: Type.Object({}) })
const other = defineOperation({ name: 'other', input: Type.Object({}) })
const operations = { note, other }

// No key exists, so the console is open.
const { url, database } = await serve(t, { operations, rateLimit: false }, undefined, 'console')
const jobs = await openJobs(t, [note, other], database.options.url)
const { query } = jobs

const browser = new ConsoleClient(url)
const read = async (path: string) => {
  const { status, body } = await browser.send(path)
  return { status, body: body.replaceAll('&amp;', '&') }
}
const idsIn = (body: string) => [...body.matchAll(/href="\/console\/jobs\/([\da-f-]{36})" title/g)].map(([, id]) => id)

/** Sends a form, and returns the path of the next page. */
async function send(path: string, form: Record<string, string>): Promise<string> {
  const { status, location } = await browser.send(path, form)
  return location ?? `${status}`
}

const ids = (
  await query(`select accepted.enqueue(
      case when n % 2 = 0 then 'note.create' else 'other' end, idempotency_key => 'key-' || n,
      principal => 'person-' || n % 3, resource => '/notes/' || n
    ) as id from generate_series(1, 120) n`)
).map(({ id }) => id as string)
await query(
  `update accepted.job set status = 'failed', attempt = 1, started_at = created_at, ended_at = now(), payload = '{}',
    error = jsonb_build_object('code', 'code-' || right(resource, 1), 'message', 'x')
  where id = any($1)`,
  [ids.slice(0, 20)],
)
await query('delete from accepted_queue.job where id = any($1)', [ids.slice(0, 20)])
const newest = ids.toSorted().reverse()

t.test('the list pages through all jobs, the newest first', async (t) => {
  const found: (string | undefined)[] = []
  for (let path: string | undefined = '/console/jobs'; path !== undefined; ) {
    const { body } = await read(path)
    found.push(...idsIn(body))
    path = /href="([^"]*)" rel="next"/.exec(body)?.[1]
  }
  t.same(found, newest)
  t.equal(idsIn((await read('/console/jobs?size=200')).body).length, 120)
})

t.test('the filter finds jobs by each of its members', async (t) => {
  await query(`select accepted.enqueue_batch('[{"operation": "other"}]')`)
  const [batch] = await query('select id, parent from accepted.job where parent is not null')
  for (const [filter, expected] of [
    ['status=failed', ids.slice(0, 20)],
    ['status=failed&operation=other&error=code-1', [ids[0], ids[10]]],
    ['error=code-1', [ids[0], ids[10]]],
    ['status=queued&operation=note.create', ids.filter((_, index) => index >= 20 && index % 2 === 1)],
    ['principal=person-1', ids.filter((_, index) => (index + 1) % 3 === 1)],
    ['principal=person-1&key=key-4', [ids[3]]],
    ['key=key-5', [ids[4]]],
    ['resource=%2Fnotes%2F7', [ids[6]]],
    [`parent=${batch.parent}`, [batch.id]],
    ['status=running', [batch.parent]],
    ['status=canceled', []],
    ['principal=%27+or+true--', []],
    ['to=2000-01-01T00:00', []],
    ['from=2000-01-01T00:00&status=failed', ids.slice(0, 20)],
  ] as const) {
    const { status, body } = await read(`/console/jobs?size=200&${filter}`)
    t.equal(status, 200)
    t.same(idsIn(body).sort(), [...expected].sort(), filter)
  }
  for (const [filter, problem] of [
    ['status=x', 'The status must be one of'],
    ['retried=x', 'Retried must be true or false'],
    ['parent=x', 'The parent must be the id'],
    ['from=yesterday', 'must look like 2027'],
  ]) {
    t.match((await read(`/console/jobs?${filter}`)).body, problem)
  }
  t.equal((await browser.send(`/console/jobs?id=${ids[0]}`)).location, `/console/jobs/${ids[0]}`)
  t.equal((await browser.send(`/console/jobs?id=x&id=${ids[0]}`)).location, `/console/jobs/${ids[0]}`)
})

t.test('many jobs are redriven, undone and canceled by a job, after a preview', async (t) => {
  const handlers = defineHandlers(operations, {
    'note.create': { settle: async () => {} },
    other: { settle: async () => {} },
  })
  const worker = await jobs.work(handlers, { operations: ['jobs.bulk'] })
  const change = async (form: Record<string, string>) => {
    const path = await send('/console/jobs/bulk', form)
    t.match((await read(path)).body, 'jobs.bulk')
    return { path, result: (await jobs.ended(path.slice('/console/jobs/'.length))).result }
  }
  const retries = (status: string) =>
    query(`select retry_of from accepted.job where retry_of is not null and status = $1 order by retry_of`, [status])

  t.match((await read('/console/jobs/bulk?action=redrive&operation=other')).body, 'This changes 10 jobs')
  const redriven = await change({ action: 'redrive', operation: 'other', retried: 'false' })
  t.match(redriven.result, { changed: 10, skipped: 0 })
  t.equal((await retries('queued')).length, 10)
  const listed = async (filter: string) => idsIn((await read(`/console/jobs?status=failed&size=200${filter}`)).body)
  t.equal((await listed('&retried=true')).length, 10)
  t.equal((await listed('&retried=false')).length, 10)
  t.equal((await read('/console/jobs?status=failed&size=200')).body.split('failed</span> retried').length, 11)
  t.match((await read('/console/jobs/bulk?action=redrive&operation=other')).body, 'There is nothing to do')
  t.match((await change({ action: 'redrive', operation: 'other' })).result, { changed: 0, skipped: 0 })

  const undo = /href="\/console(\/jobs\/bulk\?[^"]*action=undo)"/.exec((await read(redriven.path)).body)?.[1] ?? ''
  t.match((await read(`/console${undo}`)).body, 'This changes 10 jobs')
  t.match((await change(Object.fromEntries(new URLSearchParams(undo.split('?')[1])))).result, { changed: 10 })
  t.equal((await retries('canceled')).length, 10)
  t.same(await listed('&retried=true'), [], 'a canceled retry does not count')

  t.match((await read('/console/jobs/bulk?action=cancel&principal=person-0')).body, /This changes 3\d jobs/)
  await change({ action: 'cancel', principal: 'person-0' })
  t.same(await query(`select from accepted.job where principal = 'person-0' and status = 'queued'`), [])
  t.not((await query(`select from accepted.job where status = 'queued'`)).length, 0, 'those of others stay')
  t.match(await query(`select action from accepted.audit where action like 'bulk.%' order by id`), [
    ...['redrive', 'redrive', 'undo', 'cancel'].map((action) => ({ action: `bulk.${action}` })),
  ])
  await worker.stop()
})

t.test('only accepted.bulk enqueues a job that changes others, and it refuses what it does not know', async (t) => {
  const attempt = (text: string) => query(text).catch((error) => error)
  for (const [text, message] of [
    [`select accepted.enqueue('jobs.bulk', '{"action": "cancel", "filter": {}}')`, /not enqueued directly/],
    [`select accepted.enqueue_batch('[{"operation": "jobs.bulk"}]')`, /not enqueued directly/],
    [`select accepted.enqueue_batch('[{"operation": "other"}]', '{"operation": "jobs.bulk"}')`, /batch or jobs\.bulk/],
    [`select accepted.bulk('delete')`, /the action 'delete' is unknown/],
    [`select accepted.bulk('cancel', '[]')`, /the filter is no object/],
    [`select accepted.bulk('cancel', '{"state": "failed"}')`, /unknown member: state/],
    [`select accepted.bulk('undo', '{}')`, /no member since/],
    [`select accepted.bulk('cancel', '{"parent": "x"}')`, /uuid/],
  ] as const) {
    t.match(await attempt(text), { message, code: /^22/ }, text)
  }
  t.match(await send('/console/jobs/bulk', { action: 'x' }), '/console')
})

t.test('the last week has the hours that workers have recorded', async (t) => {
  await query(`update accepted.job set status = 'succeeded', attempt = 1, started_at = created_at, error = null,
    ended_at = date_trunc('hour', now()) - interval '1 minute' where id = '${ids[117]}'`)
  await query('delete from accepted.throughput_hour')
  t.same(await query('select accepted.record_throughput() as added'), [{ added: true }])
  t.same(await query('select accepted.record_throughput() as added'), [{ added: false }])
  const hours = await query(`select hour = date_trunc('hour', now()) - interval '1 hour' as is_last, succeeded::int
    from accepted.throughput_hour where operation = 'note.create'`)
  t.same(hours, [{ is_last: true, succeeded: 1 }])
  t.match(
    (await read('/console?range=week')).body,
    /per hour[\s\S]*href="\/console\?operation=note\.create&range=week"/,
  )
  t.match((await read('/console?range=week&operation=note.create')).body, 'Charts of <strong>note.create')
})
