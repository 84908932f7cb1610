import t from 'tap'
import { validate, version } from 'uuid'
import { uuid7 } from '../../src/primitives/uuid.ts'

t.test('each id is greater than the previous id, even within a millisecond', async (t) => {
  const before = Date.now()
  const ids = Array.from({ length: 20_000 }, uuid7)
  const after = Date.now()
  t.same(ids, ids.toSorted())
  t.equal(new Set(ids).size, ids.length)
  t.ok(ids.every((id) => validate(id) && version(id) === 7))
  const millisecondsOf = (id = '') => Number.parseInt(id.replaceAll('-', '').slice(0, 12), 16)
  t.ok(millisecondsOf(ids[0]) >= before && millisecondsOf(ids.at(-1)) <= after)
  t.equal(new Set(ids.map((id) => id.slice(-12))).size, ids.length, 'the last bits are random')
})
