import t from 'tap'
import { openDatabase } from '../../src/db/database.ts'
import { listen } from '../../src/db/listener.ts'
import { channels, createNotifier, unpack } from '../../src/db/notifier.ts'
import { openTestDatabase } from '../support/database.ts'
import { freePort } from '../support/program.ts'
import { until } from '../support/until.ts'

t.test('words are heard once each, however often they are notified, and long lists in several payloads', async (t) => {
  const database = await openTestDatabase(t)
  const heard: string[] = []
  let payloads = 0
  let listening = 0
  const listener = listen(database, {
    channels: {
      [channels.work]: (payload) => {
        payloads += 1
        heard.push(...unpack(payload))
      },
    },
    onListening: () => {
      listening += 1
    },
    onError: (error) => t.fail(error.message),
  })
  t.teardown(() => listener.close())
  await until(() => listening)
  const notifier = createNotifier(database)
  const words = Array.from({ length: 1000 }, (_, index) => `operation.number-${index}`)
  for (const word of [...words, ...words]) notifier.notify('work', [word])
  await notifier.flush()
  await until(() => heard.length >= words.length)
  t.same(heard, words)
  t.ok(payloads > 1)
})

t.test('a listener whose connection is killed listens again, and says so', async (t) => {
  const database = await openTestDatabase(t)
  const heard: string[] = []
  const errors: Error[] = []
  let listening = 0
  const listener = listen(database, {
    channels: { [channels.work]: (payload) => heard.push(payload) },
    onListening: () => {
      listening += 1
    },
    onError: (error) => errors.push(error),
  })
  t.teardown(() => listener.close())
  await until(() => listening === 1)
  await database.pool.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name like '% listen' and datname = current_database()",
  )
  await until(() => listening === 2)
  t.ok(errors.length > 0)
  await database.pool.query("notify accepted_work, 'still there'")
  await until(() => heard.length > 0)
  t.same(heard, ['still there'])
})

t.test('a notifier whose Postgres is away loses its words, and nothing else', async (t) => {
  const database = openDatabase({ url: `postgres://postgres@127.0.0.1:${await freePort()}/nowhere` })
  t.teardown(() => database.close())
  const notifier = createNotifier(database)
  notifier.notify('work', ['lost'])
  await t.resolves(notifier.flush())
})
