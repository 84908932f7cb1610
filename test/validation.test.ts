import { defineOperation } from 'accepted'
import t from 'tap'
import Type from 'typebox'
import { assertPayload, findMismatch } from '../src/validation.ts'
import { serve } from './support/api.ts'
import { post } from './support/client.ts'

const schema = Type.Object(
  { at: Type.String({ format: 'date-time' }), tags: Type.Optional(Type.Array(Type.String())) },
  { additionalProperties: false },
)

t.test('the first violation is reported with its path', async (t) => {
  const at = '2026-11-21T15:00:00Z'
  for (const [value, mismatch] of [
    [{ at }, undefined],
    [{ at, tags: undefined }, undefined],
    [{ at: 'soon' }, '/at must match format "date-time"'],
    [{ at, tags: ['a', 7] }, '/tags/1 must be string'],
    [{}, 'it must have required properties at'],
    [{ at, more: 1 }, 'it must not have additional properties: more'],
    [undefined, 'it must be object'],
  ] as const) {
    t.equal(findMismatch(schema, value), mismatch)
  }
  const operation = defineOperation({ name: 'note.create', input: schema })
  t.throws(
    () => assertPayload(operation, { at: 'soon' }),
    new TypeError(`The payload does not match the schema of 'note.create': /at must match format "date-time"`),
  )
})

t.test('an invalid payload never becomes a job, whether accept returns it or the app enqueues it', async (t) => {
  const note = defineOperation({
    name: 'note.create',
    route: { method: 'POST', url: '/notes' },
    input: Type.Object({ id: Type.Unknown() }),
    payload: Type.Object({ id: Type.Integer() }),
    accept: async (_trx, entries) => entries.map(({ input }) => ({ payload: { id: input.id as number } })),
  })
  // Input and payload have the same schema, but `accept()` returns a payload that does not match it.
  const echo = defineOperation({
    name: 'note.echo',
    route: { method: 'POST', url: '/echoes' },
    input: Type.Object({ id: Type.Integer() }),
    accept: async (_trx, entries) => entries.map(() => ({ payload: { id: 'x' as unknown as number } })),
  })
  const { app, url, database } = await serve(t, { operations: { note, echo } })

  t.equal((await post(`${url}/notes`, { id: 1 })).status, 202)
  t.match(await post(`${url}/notes`, { id: 'x' }), { status: 500, body: { error: { code: 'internal-error' } } })
  t.match(await post(`${url}/echoes`, { id: 1 }), { status: 500 })
  await t.rejects(
    app.accepted.db.transaction().execute((trx) => app.accepted.enqueue(trx, note, { id: 'x' as unknown as number })),
    new TypeError("The payload does not match the schema of 'note.create': /id must be integer"),
  )
  const { rows } = await database.pool.query('select operation from accepted.job')
  t.same(rows, [{ operation: 'note.create' }])
})
