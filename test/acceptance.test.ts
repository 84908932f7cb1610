import { defineOperation } from 'accepted'
import t from 'tap'
import Type from 'typebox'
import { Refusal, refuse } from '../src/acceptance.ts'
import { serve } from './support/api.ts'
import { post } from './support/client.ts'

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
