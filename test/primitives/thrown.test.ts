import t from 'tap'
import { errorCode, isOutage } from '../../src/db/sqlstate.ts'
import { readable, withCauses } from '../../src/primitives/thrown.ts'

t.test('the causes of an error are read in order, and end where they lead back to it', async (t) => {
  const inner = Object.assign(new Error('inner'), { code: 'ECONNREFUSED' })
  const outer = new Error('outer', { cause: inner })
  t.same(withCauses(outer), [outer, inner])
  t.equal(errorCode(outer), 'ECONNREFUSED')
  inner.cause = outer
  t.equal(new Set(withCauses(outer)).size, 2)
  const cyclic = new Error('cyclic')
  cyclic.cause = cyclic
  t.equal(errorCode(cyclic), undefined)
  t.notOk(isOutage(cyclic))
})

t.test('a value that can be read stays the same, and any other becomes an error', async (t) => {
  const refuse = () => {
    throw new Error('not readable')
  }
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  const withGetter = (name: string) => Object.defineProperty(new Error('x'), name, { get: refuse })
  for (const thrown of [
    proxy,
    new Proxy({}, { get: refuse }),
    ...['code', 'message', 'cause', 'stack'].map(withGetter),
  ]) {
    t.match(readable(thrown), { message: 'A value that cannot be read was thrown' })
  }
  t.match(readable(new Error('x', { cause: withGetter('code') })), {
    message: 'A value that cannot be read was thrown',
  })
  for (const thrown of [new Error('x'), 'text', undefined, null, 7, Symbol('s'), Object.create(null)]) {
    t.equal(readable(thrown), thrown)
  }
})
