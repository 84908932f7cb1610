import { defineOperation } from 'accepted'
import t from 'tap'
import Type from 'typebox'
import { Refusal, refuse } from '../src/acceptance.ts'
import { serve } from './support/api.ts'
import { get, post } from './support/client.ts'

// The query makes Node.js load the module again, as another copy of the package would.
const copy: typeof import('../src/acceptance.ts') = await import(`../src/acceptance.ts${'?copy'}`)

t.test('a refusal of another copy of the package refuses the request', async (t) => {
  t.not(copy.Refusal, Refusal)
  const createNote = defineOperation({
    name: 'note.create',
    route: { method: 'POST', url: '/notes' },
    input: Type.Object({}),
    accept: async (_trx, entries) => entries.map(() => copy.refuse(409, 'taken', 'The note is taken')),
  })
  const { url, database } = await serve(t, { operations: { createNote } })
  t.match(await post(`${url}/notes`, {}), { status: 409, body: { error: { code: 'taken' } } })
  t.same((await database.pool.query('select id from accepted.job')).rows, [])
})

t.test('accept says when a job may start, also in a batch and for its onEnd', async (t) => {
  const at = new Date(Date.now() + 3_600_000)
  const remind = defineOperation({
    name: 'note.remind',
    route: { method: 'POST', url: '/reminders' },
    input: Type.Object({ at: Type.String({ format: 'date-time' }) }),
    accept: async (_trx, entries) => entries.map(({ input }) => ({ payload: input, runAt: new Date(input.at) })),
  })
  const { url, database } = await serve(t, { operations: { remind } })
  const input = { at: at.toISOString() }
  const { status, body } = await post(`${url}/reminders`, input)
  t.equal(status, 202)
  t.match((await get(body.links.self)).body, { status: 'queued', nextAttemptAt: at.toISOString() })
  const item = { operation: 'note.remind', input }
  const { body: batch } = await post(`${url}/batches`, { items: [item], onEnd: item })
  await database.pool.query('select accepted.cancel($1)', [batch.id])
  const { rows } = await database.pool.query('select run_at, expires_at > run_at as is_kept from accepted.job')
  const jobs = rows.filter(({ run_at }) => run_at !== null)
  t.same(jobs, Array(3).fill({ run_at: at, is_kept: true }))
})

t.test('accept must return a valid runAt, and none for a job that starts at the end of its window', async (t) => {
  const define = (name: string, runAt: Date, more: object = {}) =>
    defineOperation({
      ...{ name, route: { method: 'POST', url: `/${name}` }, input: Type.Object({}), ...more },
      accept: async (_trx, entries) => entries.map(() => ({ payload: {}, runAt })),
    })
  const coalesce = { key: () => 'k', forSeconds: 60, mode: 'last' }
  const operations = { invalid: define('invalid', new Date('never')), last: define('last', new Date(), { coalesce }) }
  const { url, database } = await serve(t, { operations })
  for (const name of ['invalid', 'last']) t.equal((await post(`${url}/${name}`, {})).status, 500)
  t.same((await database.pool.query('select from accepted.job')).rows, [])
})

t.test('a value that only looks like a refusal is not taken for one', async (t) => {
  const valid = { [Symbol.for('accepted.Refusal')]: true, status: 409, code: 'x', message: 'y' }
  t.ok(valid instanceof Refusal)
  t.ok(refuse(409, 'x', 'y') instanceof Refusal)
  for (const wrong of [{ status: 200 }, { status: '409' }, { code: '' }, { code: undefined }, { message: 7 }]) {
    t.notOk({ ...valid, ...wrong } instanceof Refusal)
  }
  t.notOk({ status: 409, code: 'x', message: 'y' } instanceof Refusal)
})

t.test('a refusal needs a code and a message', async (t) => {
  t.throws(() => refuse(409, '', 'y'), /code/)
  t.throws(() => refuse(409, 'x', undefined as unknown as string), /message/)
})
