import { defineOperation } from 'accepted'
import t from 'tap'
import Type from 'typebox'
import { createKey } from '../../../src/jobs/api-key.ts'
import { serve } from '../../support/api.ts'
import { ConsoleClient } from './client.ts'

const note = defineOperation({
  name: 'note.create',
  input: Type.Object({ text: Type.String() }),
  result: Type.Object({ text: Type.String() }),
})

const { url, database } = await serve(t, { operations: { note }, rateLimit: false }, undefined, 'console')
const query = async (text: string, values: unknown[] = []) => (await database.pool.query(text, values)).rows
const { id: keyId, key } = await database.kysely
  .transaction()
  .execute((trx) => createKey(trx as never, { name: 'ops', principal: 'olga', scopes: ['operate'] }))

const browser = new ConsoleClient(url)
await browser.signIn(key)

const enqueue = async (more = ''): Promise<string> =>
  (await query(`select accepted.enqueue('note.create', '{"text": "x"}', principal => 'ann'${more}) as id`))[0].id

const statusOf = async (id: string): Promise<string> =>
  (await query('select status from accepted.job where id = $1', [id]))[0].status

t.test('each act does what its function in SQL does, and is recorded with principal and key', async (t) => {
  const id = await enqueue(`, run_at => now() + interval '1 day'`)
  t.match(await browser.act(`/console/jobs/${id}/priority`, { priority: '7' }), 'The priority is changed.')
  t.match(await browser.act(`/console/jobs/${id}/run`), 'The job is due now.')
  t.match(await browser.act(`/console/jobs/${id}/cancel`), 'The job is canceled.')
  t.match(await browser.act(`/console/jobs/${id}/retry`), /This is the new job[\s\S]*Retry of[\s\S]*waits for a worker/)
  t.equal(await statusOf(id), 'canceled')
  const [retry] = await query('select id, status from accepted.job where retry_of = $1', [id])
  t.match(retry, { status: 'queued' })
  t.match(await query('select role, key_id, principal, action, object from accepted.audit where id > 1 order by id'), [
    ...['prioritize', 'reschedule', 'cancel', 'retry'].map((action) => ({
      ...{ role: 'accepted_operator', key_id: keyId, principal: 'olga', action, object: id },
    })),
  ])
})

t.test('what the database refuses is said on the page, and changes nothing', async (t) => {
  const id = await enqueue()
  await query('select accepted.cancel($1)', [id])
  const form = { back: `/console/jobs/${id}` }
  t.match(await browser.act(`/console/jobs/${id}/cancel`, form), 'The job is canceled.', 'again')
  t.match(
    await browser.act(`/console/jobs/${id}/run`, form),
    /role="alert">Job .* is not waiting in the queue: it is canceled\./,
  )
  t.match(
    await browser.act(`/console/jobs/${id}/priority`, { ...form, priority: 'x' }),
    /role="alert">The priority must be an integer/,
  )
  t.match(await browser.act('/console/jobs/01a1fd26-9b1c-7c3e-9d0f-2f4f1f0f6a51/retry'), /role="alert">[^<]*01a1fd26/)
  t.match(await browser.send('/console/jobs/x'), { status: 404 })
  t.match(await browser.send('/console/jobs/01a1fd26-9b1c-7c3e-9d0f-2f4f1f0f6a51'), { status: 404 })
  t.match(await browser.send('/console/stuck?a=%00'), { status: 400 })
})

t.test('hostile text of clients and handlers is shown as text', async (t) => {
  const hostile = `"><script>alert(1)</script><img src=x onerror='alert(1)'>&amp;`
  const [{ id }] = await query('select accepted.enqueue($1, $2, principal => $3, resource => $4) as id', [
    ...['note.create', JSON.stringify({ text: hostile }), hostile, `/${hostile}`],
  ])
  await query(
    `update accepted.job set status = 'failed', attempt = 1, message = $2, ended_at = now(), started_at = now(),
      error = jsonb_build_object('code', $2::text, 'message', $2::text), payload = jsonb_build_object('text', $2::text)
    where id = $1`,
    [id, hostile],
  )
  for (const path of [`/console/jobs/${id}`, '/console']) {
    const { status, body } = await browser.send(path)
    t.equal(status, 200)
    t.match(body, '&lt;script&gt;alert(1)&lt;/script&gt;')
    t.notMatch(body, /<script>alert|<img/)
  }
})

t.test('payload and result are shown to operators as they are stored, and large ones are left out', async (t) => {
  const [{ id }] = await query(
    `select accepted.enqueue('note.create', '{"text": "x", "order": 9007199254740993}') as id`,
  )
  const page = async () => (await browser.send(`/console/jobs/${id}`)).body
  t.match(
    await page(),
    /Payload<\/h2><pre[^>]*>\{\n {4}&quot;text&quot;: &quot;x&quot;,\n {4}&quot;order&quot;: 9007199254740993\n\}/,
  )
  await query(
    `update accepted.job set status = 'succeeded', ended_at = now(), started_at = now(), attempt = 1, result = $2, payload = $3
    where id = $1`,
    [id, JSON.stringify({ text: 'done' }), JSON.stringify({ text: 'x'.repeat(64 * 1024) })],
  )
  const ended = await page()
  t.match(ended, /Result<\/h2><pre[^>]*>\{\n {4}&quot;text&quot;: &quot;done&quot;/)
  t.notMatch(ended, 'Payload')
})

t.test('what is stuck comes first', async (t) => {
  const { body: before } = await browser.send('/console')
  t.match(before, 'Nothing is stuck')
  await enqueue()
  await query(`select accepted.pause('note.create', 'the bank is down')`)
  const { body } = await browser.send('/console')
  t.match(body, /Stuck: 1[\s\S]*its operation is paused, and jobs wait: the bank is down[\s\S]*Backlog[\s\S]*paused/)
  t.match((await browser.send('/console/stuck')).body, 'the bank is down')
  await query(`select accepted.resume('note.create')`)
})

t.test('without the rights of an operator, the page says what a DBA can do', async (t) => {
  const plain = await serve(t, { operations: { note } })
  const response = await fetch(`${plain.url}/console`)
  t.equal(response.status, 403)
  t.match(await response.text(), 'grant accepted_operator to')
})
