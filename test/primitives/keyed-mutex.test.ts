import t from 'tap'
import { createKeyedMutex } from '../../src/primitives/keyed-mutex.ts'

const options = { timeoutMs: 60_000, timeoutError: () => new Error('timeout') }

t.test('work with the same key runs one after another, other keys at once', async (t) => {
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
})

t.test('a caller that times out does not let the next one overtake the first', async (t) => {
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

t.test('a failure is passed on and frees the key', async (t) => {
  const mutex = createKeyedMutex()
  await t.rejects(
    mutex.runExclusive('a', options, async () => {
      throw new Error('bad')
    }),
    new Error('bad'),
  )
  t.equal(await mutex.runExclusive('a', options, async () => 'good'), 'good')
})
