import t from 'tap'
import { redact, serializeError } from '../../src/primitives/redact.ts'

t.test('a serialised error has its message, code, stack and cause, but no credentials', async (t) => {
  const cause = Object.assign(new Error('at postgres://ann:s3cr3t@db/x'), { code: 'ECONNREFUSED', password: 's3cr3t' })
  const error = new Error('no database', { cause })
  const logged = serializeError(error)
  t.match(logged, {
    ...{ type: 'Error', message: 'no database', stack: /redact\.test/ },
    cause: { code: 'ECONNREFUSED', message: 'at postgres://***@db/x' },
  })
  t.notMatch(JSON.stringify(logged), 's3cr3t')
})

t.test('any thrown value can be serialised', async (t) => {
  const cyclic = new Error('cyclic')
  cyclic.cause = cyclic
  t.equal(serializeError(cyclic).message, 'cyclic')
  for (const thrown of [undefined, null, Object.create(null), Object.assign(new Error(), { message: Symbol('s') })]) {
    t.type(serializeError(thrown).message, 'string')
  }
})

t.test('a long text is cut after 4,000 characters', async (t) => {
  t.equal(redact('x'.repeat(1_000_000)).length, 4_000)
})
