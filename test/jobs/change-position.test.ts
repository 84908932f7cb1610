import fc from 'fast-check'
import t from 'tap'
import { type ChangePosition, contains, earlier, isChangePosition, shorten } from '../../src/jobs/change-position.ts'

/** The snapshots that were taken while transactions began and ended in a random order, in the order of time. */
const histories = fc.array(fc.integer({ min: 0, max: 20 }), { minLength: 2, maxLength: 60 }).map((steps) => {
  let next = 10
  const open = new Set<number>()
  return steps.map((step): ChangePosition => {
    const ids = [...open]
    if (step < 12 && ids.length > 0) open.delete(ids[step % ids.length] as number)
    else open.add(next++)
    const inProgress = [...open].sort((a, b) => a - b)
    return `${inProgress[0] ?? next}:${next}:${inProgress.join(',')}`
  })
})

/** Whether a reader at the position has seen the changes of a transaction. */
const hasSeen = (position: ChangePosition, id: number) => {
  const [, xmax, inProgress = ''] = position.split(':')
  return id < Number(xmax) && !inProgress.split(',').includes(String(id))
}

const ids = Array.from({ length: 80 }, (_, index) => index + 1)

t.test('a later snapshot contains every earlier one, and only those whose transactions it has seen', (t) => {
  fc.assert(
    fc.property(histories, (positions) => {
      for (const [index, one] of positions.entries()) {
        for (const other of positions.slice(0, index)) {
          if (!contains(one, other)) return false
          const isSame = ids.every((id) => hasSeen(one, id) === hasSeen(other, id))
          if (!isSame && contains(other, one)) return false
        }
      }
      return true
    }),
  )
  t.end()
})

t.test('the earlier of two positions, and a shortened position, have seen nothing that the originals have not', (t) => {
  fc.assert(
    fc.property(histories, (positions) => {
      const all = [...positions, ...positions.map(shorten)]
      return all.every((one) => {
        if (!isChangePosition(one)) return false
        return all.every((other) => {
          const both = earlier(one, other) as ChangePosition
          return ids.every((id) => !hasSeen(both, id) || (hasSeen(one, id) && hasSeen(other, id)))
        })
      })
    }),
  )
  t.equal(earlier(undefined, '5:5:'), '5:5:')
  t.equal(earlier('5:5:', undefined), '5:5:')
  const long = `10:30:${ids.slice(9, 29).join(',')}`
  t.equal(shorten(long), '10:10:')
  t.end()
})

for (const text of [
  '',
  '0',
  '5:4:',
  '0:5:',
  '5:9:4',
  '5:9:9',
  '5:9:7,6',
  '5:9:6,6',
  '5:9',
  '5:9:x',
  `${'9'.repeat(20)}:1:`,
]) {
  t.test(`'${text}' is no position`, (t) => {
    t.notOk(isChangePosition(text))
    t.end()
  })
}
