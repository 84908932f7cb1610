import t from 'tap'
import { BoundedMap } from '../../src/primitives/bounded-map.ts'

t.test('a full map drops the entry that was set the longest ago', async (t) => {
  const map = new BoundedMap<number>(2)
  map.set('a', 1)
  map.set('b', 2)
  map.set('a', 3)
  map.set('c', 4)
  t.same(
    ['a', 'b', 'c'].map((key) => map.get(key)),
    [3, undefined, 4],
  )
  map.growTo(3)
  map.set('d', 5)
  t.same(
    ['a', 'c', 'd'].map((key) => map.get(key)),
    [3, 4, 5],
  )
})
