import t, { type Test } from 'tap'
import { type Database, openDatabase } from '../../src/db/database.ts'
import { listen } from '../../src/db/listener.ts'
import { channels, createNotifier, unpack } from '../../src/db/notifier.ts'
import { createDatabase, openTestDatabase, queryOnce } from '../support/database.ts'
import { freePort } from '../support/program.ts'
import { until } from '../support/until.ts'

/** Listens on the channel `work` and collects payloads and errors. Resolves when the listener is ready. */
async function startListening(t: Test, database: Database) {
  const payloads: string[] = []
  const errors: Error[] = []
  let starts = 0
  const listener = listen(database, {
    channels: { [channels.work]: (payload) => payloads.push(payload) },
    onListening: () => {
      starts += 1
    },
    onError: (error) => errors.push(error),
  })
  t.teardown(() => listener.close())
  await until(() => starts === 1)
  return { payloads, errors, starts: () => starts }
}

t.test('an item that is sent twice is received once, and a long list is split into several payloads', async (t) => {
  const database = await openTestDatabase(t)
  const { payloads, errors } = await startListening(t, database)
  const notifier = createNotifier(database)
  const items = Array.from({ length: 1000 }, (_, index) => `operation.number-${index}`)
  for (const item of [...items, ...items]) notifier.notify('work', [item])
  await notifier.flush()
  const received = () => payloads.flatMap(unpack)
  await until(() => received().length >= items.length)
  t.same(received(), items)
  t.ok(payloads.length > 1)
  t.same(errors, [])
})

t.test('a listener whose connection is killed reports the error and listens again', async (t) => {
  const database = await openTestDatabase(t)
  const { payloads, errors, starts } = await startListening(t, database)
  await database.pool.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
    where application_name like '% listen' and datname = current_database()`,
  )
  await until(() => starts() === 2)
  t.ok(errors.length > 0)
  await database.pool.query("notify accepted_work, 'still there'")
  await until(() => payloads.length > 0)
  t.same(payloads, ['still there'])
})

t.test('a listener on a read-only server reconnects less and less often', async (t) => {
  const url = await createDatabase(t)
  const name = new URL(url).pathname.slice(1)
  await queryOnce(url, `alter database ${name} set default_transaction_read_only = on`)
  const database = openDatabase({ url })
  t.teardown(() => database.close())
  const startedAt: number[] = []
  const onListening = () => void startedAt.push(performance.now())
  const listener = listen(database, { channels: {}, onListening, onError: (error) => t.fail(error.message) })
  t.teardown(() => listener.close())
  await until(() => startedAt.length >= 5)
  const [, , , fourth = 0, fifth = 0] = startedAt
  t.ok(fifth - fourth > 700, 'the pauses, which begin with 100 ms, grow')
})

t.test('while Postgres is unavailable, a notifier loses its notifications, and flush does not reject', async (t) => {
  const database = openDatabase({ url: `postgres://postgres@127.0.0.1:${await freePort()}/nowhere` })
  t.teardown(() => database.close())
  const notifier = createNotifier(database)
  notifier.notify('work', ['lost'])
  await t.resolves(notifier.flush())
})
