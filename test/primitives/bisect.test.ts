import t from 'tap'
import { runBisecting } from '../../src/primitives/bisect.ts'

/** Runs items; each run with a bad item fails. Returns the runs, the failed items and the number of splits. */
async function bisect(items: readonly number[], isBad: (item: number) => boolean, canSplit = true) {
  const runs: number[][] = []
  const failed: number[][] = []
  let splits = 0
  await runBisecting(items, {
    async run(some) {
      runs.push([...some])
      if (some.some(isBad)) throw new Error(`${some}`)
    },
    canSplit: () => canSplit,
    onSplit: () => {
      splits += 1
    },
    onFailure: (some) => void failed.push([...some]),
  })
  return { runs, failed, splits }
}

t.test('a batch that succeeds runs once', async (t) => {
  t.same(await bisect([1, 2, 3], () => false), { runs: [[1, 2, 3]], failed: [], splits: 0 })
})

t.test('an empty batch does not run', async (t) => {
  t.same(await bisect([], () => true), { runs: [], failed: [], splits: 0 })
})

t.test('only the bad item fails, and the halves run in order', async (t) => {
  t.same(await bisect([1, 2, 3, 4], (item) => item === 3), {
    runs: [[1, 2, 3, 4], [1, 2], [3, 4], [3], [4]],
    failed: [[3]],
    splits: 2,
  })
})

t.test('a batch that must not be split fails as a whole', async (t) => {
  t.same(await bisect([1, 2, 3], (item) => item === 3, false), { runs: [[1, 2, 3]], failed: [[1, 2, 3]], splits: 0 })
})
