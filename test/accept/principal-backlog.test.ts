import { defineOperation } from 'accepted'
import t from 'tap'
import Type from 'typebox'
import { serve } from '../support/api.ts'
import { type JsonResponse, post } from '../support/client.ts'
import { openJobs } from '../support/jobs.ts'
import { until } from '../support/until.ts'

const bounded = defineOperation({
  ...{ name: 'note.bound', route: { method: 'POST', url: '/bounded' }, input: Type.Object({}) },
  ...{ maxBacklog: 100, maxBacklogPerPrincipal: 3 },
})
const other = defineOperation({
  ...{ name: 'note.other', route: { method: 'POST', url: '/other' }, input: Type.Object({}) },
  maxBacklogPerPrincipal: 3,
})
const operations = { bounded, other }

t.test('a principal with a full backlog gets 429 for everything that adds jobs; others do not', async (t) => {
  const authenticate = (request: { headers: Record<string, unknown> }) => `${request.headers['x-user'] ?? 'ann'}`
  const { url } = await serve(t, { operations, authenticate })
  const submit = (path: string, user: string, body: unknown = {}) => post(url + path, body, { 'x-user': user })
  const batch = (count: number) => ({ items: Array(count).fill({ operation: 'note.bound', input: {} }) })

  const canceled = (await submit('/bounded', 'ann')).body.id
  await submit(`/jobs/${canceled}/cancel`, 'ann')
  const sent: JsonResponse[] = []
  // The cancellation is in the count after a moment.
  await until(async () => {
    const answer = await submit('/bounded', 'ann')
    if (answer.status === 202) sent.push(answer)
    return sent.length === 3
  })
  for (let count = 0; count < 3; count++) sent.push(await submit('/bounded', 'ann'))
  t.same(
    sent.map(({ status }) => status),
    [202, 202, 202, 429, 429, 429],
  )
  const full = sent.find(({ status }) => status === 429)
  t.match(full?.body, { type: '/docs/problems/principal-backlog-full', error: { code: 'principal-backlog-full' } })
  t.match(full?.headers.get('retry-after'), /^[1-9]/)
  t.match(await submit('/batches', 'ann', batch(1)), {
    status: 429,
    body: { error: { code: 'principal-backlog-full' } },
  })
  t.match(await submit(`/jobs/${canceled}/retry`, 'ann'), { status: 429 })
  t.equal((await submit('/other', 'ann')).status, 202, 'the backlog of another operation')

  t.match(await submit('/batches', 'bob', batch(4)), {
    ...{ status: 400, body: { error: { details: [{ pointer: '/items', keyword: 'maxBacklogPerPrincipal' }] } } },
  })
  t.equal((await submit('/batches', 'bob', batch(2))).status, 202)
  t.equal((await submit('/batches', 'bob', batch(2))).status, 429)
  t.equal((await submit('/bounded', 'bob')).status, 202)

  const waiting = sent.find(({ status }) => status === 202)?.body.id
  await submit(`/jobs/${waiting}/cancel`, 'ann')
  await until(async () => (await submit('/bounded', 'ann')).status === 202)
  t.equal((await submit('/bounded', 'ann')).status, 429)
})

t.test('a repeated request gets its job although the backlog is full', async (t) => {
  const total = defineOperation({
    ...{ name: 'note.total', route: { method: 'POST', url: '/total' }, input: Type.Object({}) },
    maxBacklog: 3,
  })
  const { url } = await serve(t, { operations: { other, total } })
  const canceled = (await post(`${url}/other`, {})).body.links
  await post(canceled.cancel, {})
  const batch = { items: [{ operation: 'note.other', input: {} }] }
  const requests = [
    ['/other', {}],
    ['/total', {}],
    ['/batches', batch],
    [canceled.retry.slice(url.length), {}],
  ] as const
  const send = ([path, body]: (typeof requests)[number], key: string) =>
    post(url + path, body, { 'idempotency-key': `${key} ${path}` })
  const sent = []
  for (const request of requests) {
    sent.push(
      await until(async () => {
        const answer = await send(request, 'first')
        return answer.status === 202 && answer.body.id
      }),
    )
  }
  await until(async () => (await post(`${url}/total`, {})).status === 503)
  for (const [index, request] of requests.entries()) {
    t.match(await until(async () => [429, 503].includes((await send(request, String(index))).status)), true)
    t.match(await send(request, 'first'), { status: 202, body: { id: sent[index] } }, request[0])
  }
  t.equal((await post(`${url}/total`, {}, { 'idempotency-key': 'first /other' })).status, 422)
})

t.test('SQL refuses jobs above the backlog of a principal, whatever their priority and due time', async (t) => {
  const { query } = await openJobs(t, Object.values(operations))
  const add = (principal: string, more = '') =>
    query(`select accepted.enqueue('note.bound', principal => $1${more}) as id`, [principal])
  const addBatch = (principal: string, count: number) =>
    query(`select accepted.enqueue_batch($1, principal => $2)`, [
      JSON.stringify(Array(count).fill({ operation: 'note.bound' })),
      principal,
    ])
  const error = { code: '53400', hint: /maxBacklogPerPrincipal/ }
  await add('ann', ', priority => 2147483647')
  await add('ann', ', priority => -2147483648')
  const [deferred] = await add('ann', `, run_at => now() + interval '1 day'`)
  await t.rejects(add('ann'), { ...error, message: "3 jobs of 'note.bound' wait already for 'ann'" })
  await t.rejects(add('ann', `, idempotency_key => 'k'`), error)
  t.same(await query('select from accepted.idempotency_key'), [], 'the key stays unused')
  await t.rejects(addBatch('ann', 1), { ...error, message: /backlog of 'note\.bound' for 'ann': at most 3 jobs/ })
  await t.rejects(addBatch('bob', 4), error)
  await addBatch('bob', 3)
  await t.rejects(add('bob'), error)
  await add('cay')
  await query('select accepted.cancel($1)', [deferred.id])
  await add('ann')
  await query(`update accepted_queue.job set state = 'active' where singleton_key = 'ann'`)
  await addBatch('ann', 3)
})

t.test('the count reads few index entries, among many jobs of other principals', async (t) => {
  const { query, database } = await openJobs(t, Object.values(operations))
  const insert = `insert into accepted_queue.job (id, name, data, priority, singleton_key, policy, start_after, created_on)
    select accepted.uuid7(), 'note.bound', '{}', $1, $2 || case when $3 then n::text else '' end, 'standard', now(), now()
    from generate_series(1, $4::integer) n`
  await query('alter table accepted_queue.job disable trigger user')
  await query(insert, [0, 'other', true, 20_000])
  await query(insert, [5, 'other', true, 20_000])
  await query(insert, [0, 'ann', false, 40])
  await query(insert, [7, 'ann', false, 2_000])
  await query('analyze accepted_queue.job_common')
  const client = await database.pool.connect()
  try {
    const countRead = async (): Promise<number> => {
      const { rows } = await client.query(`
        select sum(pg_stat_get_xact_tuples_returned(indexrelid))::integer as read from pg_index
        where indrelid = 'accepted_queue.job_common'::regclass`)
      return rows[0].read
    }
    const count = async (principal: string, maxJobs: number) => {
      const values = ['note.bound', principal, maxJobs]
      const before = await countRead()
      const { rows } = await client.query('select accepted.count_backlog($1, $2, $3) as waiting', values)
      return { ...rows[0], read: (await countRead()) - before }
    }
    await client.query('begin')
    t.match(await count('ann', 10_000), { waiting: 2_040 })
    for (const [principal, maxJobs, waiting, maxRead] of [
      ['ann', 100, 100, 110],
      ['none', 1_000, 0, 10],
      ['other7', 1_000, 2, 10],
    ] as const) {
      const counted = await count(principal, maxJobs)
      t.equal(counted.waiting, waiting, principal)
      t.ok(counted.read >= 1 && counted.read <= maxRead, `${principal}: read ${counted.read}`)
    }
    await client.query('rollback')
  } finally {
    client.release()
  }
})
