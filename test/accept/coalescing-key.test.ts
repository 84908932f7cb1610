import { defineOperation } from 'accepted'
import t from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import { withCoalescingKey } from '../../src/accept/coalescing-key.ts'

const keyOf = (key: () => unknown) => {
  const operation = defineOperation({
    ...{ name: 'note.share', route: { method: 'POST', url: '/notes' }, input: Type.Object({}) },
    coalesce: { key: key as () => string, forSeconds: 60, mode: 'first' },
  })
  return withCoalescingKey({ id: uuid7(), operation, input: {}, params: {}, principal: 'ann' }).coalescingKey
}

t.test('a mistake in the key function throws an error that names the operation, and declares no answer', async (t) => {
  for (const [returned, what] of [
    [undefined, 'a value of type undefined'],
    [7, 'a value of type number'],
    [Promise.resolve('k'), 'a value of type object'],
    ['a\0b', 'a text with a NUL character'],
  ] as const) {
    const message = `coalesce.key of 'note.share' must return a text, and returned ${what}`
    t.throws(() => keyOf(() => returned), { name: 'TypeError', message })
  }
  const broken = () => {
    throw Object.assign(new Error('broken'), { statusCode: 404 })
  }
  const error = { message: "coalesce.key of 'note.share' failed", cause: { message: 'broken' }, statusCode: undefined }
  t.throws(() => keyOf(broken), error)
})

t.test('half of a surrogate pair becomes the character that Postgres stores', async (t) => {
  t.equal(
    keyOf(() => '\u{1F600}'.slice(0, 1)),
    '\ufffd',
  )
})
