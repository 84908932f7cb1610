import { defineOperation } from 'accepted'
import t from 'tap'
import Type from 'typebox'
import { createSeals, noSeals } from '../../src/jobs/seals.ts'
import { createShownResults } from '../../src/jobs/shown-results.ts'
import { DecryptionError, newEncryptionKey } from '../../src/primitives/key-ring.ts'

const operationWith = (seal: string[], name = 'x') =>
  defineOperation({ name, input: Type.Unknown(), result: Type.Unknown(), seal })
const key = newEncryptionKey('2027')
const seals = createSeals(key, [])

t.test('what is sealed is opened as the same JSON', async (t) => {
  const job = { operation: operationWith(['/a', '/b/0', '/missing']), principal: 'ann' }
  for (const value of [
    null,
    false,
    0,
    -1.5e-300,
    2 ** 53,
    0.1,
    '',
    'ä\u0000\ud83d',
    [],
    {},
    { $sealed: 'x' },
    [{ c: null }],
  ]) {
    const document = { a: value, b: [value, 1], c: 'open' }
    const sealed = seals.seal('payload', job, document)
    t.match(sealed, { a: { $sealed: /^sealed\.2027\./ }, b: [{ $sealed: String }, 1], c: 'open' })
    t.same(seals.open('payload', job, JSON.parse(JSON.stringify(sealed))), document)
    t.same(document, { a: value, b: [value, 1], c: 'open' }, 'the given document stays as it is')
  }
})

t.test('what is stored as JSON is sealed, whatever the value is in the program', async (t) => {
  const job = { operation: operationWith(['/secret']), principal: 'ann' }
  const sealed = seals.seal('payload', job, { toJSON: () => ({ secret: 'x', at: new Date(0) }) })
  t.match(sealed, { secret: { $sealed: String }, at: '1970-01-01T00:00:00.000Z' })
  t.equal(seals.seal('payload', job, undefined), undefined)
})

t.test('a whole document is sealed by an empty pointer, but not the missing result', async (t) => {
  const job = { operation: operationWith(['']), principal: 'ann' }
  for (const value of ['text', 1, [1], { a: 1 }]) {
    const sealed = seals.seal('result', job, value)
    t.match(sealed, { $sealed: String })
    t.same(seals.open('result', job, sealed), value)
  }
  t.equal(seals.seal('result', job, null), null)
})

t.test('what is sealed can be opened only for the same operation, principal and member', async (t) => {
  const operation = operationWith(['/a', '/b'])
  const job = { operation, principal: 'ann' }
  const { a } = seals.seal('payload', job, { a: 'secret' }) as { a: unknown }
  t.same(seals.open('payload', job, { a }), { a: 'secret' })
  t.throws(() => seals.open('payload', { operation, principal: 'bob' }, { a }), DecryptionError)
  t.throws(() => seals.open('payload', { ...job, operation: operationWith(['/a'], 'y') }, { a }), DecryptionError)
  t.throws(() => seals.open('payload', job, { b: a }), DecryptionError)
  t.throws(() => seals.open('result', job, { a }), DecryptionError)
  t.throws(() => createSeals(newEncryptionKey('2027'), []).open('payload', job, { a }), DecryptionError)
  t.same(seals.open('payload', job, { a: 'open', c: a }), { a: 'open', c: a }, 'other members stay as they are')
})

t.test('values of operations that seal nothing stay the same, without keys too', async (t) => {
  const job = { operation: operationWith([]), principal: 'ann' }
  const value = { a: 1 }
  for (const some of [seals, noSeals, createSeals(undefined, [job.operation])]) {
    t.equal(some.seal('payload', job, value), value)
    t.equal(some.open('payload', job, value), value)
  }
})

t.test('a result is shown open to its owner only, and sealed if the key is missing', async (t) => {
  const operation = operationWith(['/a'])
  const operations = new Map([['x', operation]])
  const job = { operation: 'x', principal: 'ann' }
  const sealed = seals.seal('result', { operation, principal: 'ann' }, { a: 1 })
  const results = createShownResults(operations, seals)
  t.same(results.show(job, 'ann', sealed), { a: 1 })
  t.equal(results.show(job, 'bob', sealed), sealed)
  t.equal(results.showJson(job, 'ann', JSON.stringify(sealed)), '{"a":1}')
  t.equal(results.showJson(job, 'bob', '{ }'), '{ }')
  t.equal(results.show({ operation: 'removed', principal: 'ann' }, 'ann', sealed), sealed)
  const errors: string[] = []
  const others = createSeals(newEncryptionKey('2028'), [])
  const withoutKey = createShownResults(operations, others, ({ code }) => void errors.push(code))
  t.equal(withoutKey.show(job, 'ann', sealed), sealed)
  t.same(errors, ['decryption-key-missing'])
  t.throws(() => createShownResults(operations, others).show(job, 'ann', sealed), DecryptionError)
})
