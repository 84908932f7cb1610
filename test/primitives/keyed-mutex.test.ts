import t from 'tap'
import { createKeyedMutex } from '../../src/primitives/keyed-mutex.ts'

const options = { timeoutMs: 60_000, timeoutError: () => new Error('timeout') }

t.test(
  'calls with the same key run one after another, and calls with different keys run at the same time',
  async (t) => {
    const mutex = createKeyedMutex()
    const started: string[] = []
    const first = Promise.withResolvers<void>()
    const run = (key: string, name: string, until?: Promise<void>) =>
      mutex.runExclusive(key, options, async () => {
        started.push(name)
        await until
        return name
      })
    const all = [run('a', 'a1', first.promise), run('a', 'a2'), run('b', 'b1')]
    t.equal(await all[2], 'b1')
    t.same(started, ['a1', 'b1'])
    first.resolve()
    t.same(await Promise.all(all), ['a1', 'a2', 'b1'])
    t.same(started, ['a1', 'b1', 'a2'])
  },
)

t.test('when a waiting caller times out, the next caller still waits for the first caller', async (t) => {
  const mutex = createKeyedMutex()
  const first = Promise.withResolvers<void>()
  const running = mutex.runExclusive('a', options, () => first.promise)
  await t.rejects(
    mutex.runExclusive('a', { ...options, timeoutMs: 1 }, async () => {}),
    new Error('timeout'),
  )
  let isThirdDone = false
  const third = mutex.runExclusive('a', options, async () => {
    isThirdDone = true
  })
  await new Promise((resolve) => setImmediate(resolve))
  t.equal(isThirdDone, false)
  first.resolve()
  await Promise.all([running, third])
  t.equal(isThirdDone, true)
})

t.test('when the work of a caller throws, the caller gets the error, and the key becomes free', async (t) => {
  const mutex = createKeyedMutex()
  await t.rejects(
    mutex.runExclusive('a', options, async () => {
      throw new Error('bad')
    }),
    new Error('bad'),
  )
  t.equal(await mutex.runExclusive('a', options, async () => 'good'), 'good')
})
