import { once } from 'node:events'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { openDatabase } from '../../src/db/database.ts'
import { ended, post } from '../support/client.ts'
import { createDatabase } from '../support/database.ts'
import { start } from '../support/program.ts'
import { until } from '../support/until.ts'
import { schema } from './fixtures/operations.ts'

const config = join(import.meta.dirname, 'fixtures/accepted.config.ts')

t.jobs = 2

async function setUp(t: Test) {
  const databaseUrl = await createDatabase(t)
  const database = openDatabase({ url: databaseUrl })
  t.teardown(() => database.close())
  await database.pool.query(schema)
  const api = await start(t, 'api', { config, databaseUrl })
  const submit = async (path: string, text: string) => (await post(api.url + path, { text })).body.links.self as string
  const query = async (text: string) => (await database.pool.query(text)).rows
  return { databaseUrl, submit, query }
}

t.test(
  'a promise that nobody waits for is charged to its job; its neighbours and the worker are unharmed',
  async (t) => {
    const { databaseUrl, submit } = await setUp(t)
    const worker = await start(t, 'worker', { config, databaseUrl })
    const neighbour = await submit('/notes/performed', 'wait')
    const poison = await submit('/notes/performed', 'reject late')
    const late = await submit('/notes/performed', 'reject when it is over')
    t.match(await ended(poison), {
      ...{ status: 'failed', attempt: 2 },
      error: { code: 'handler-error', message: 'Nobody waits for me' },
    })
    t.match(await ended(late), { status: 'succeeded', attempt: 1 })
    t.match(await ended(neighbour), { status: 'succeeded', attempt: 1 })
    await until(() => worker.output().includes('Too late'))
    t.match(await ended(await submit('/notes/performed', 'still there')), { status: 'succeeded' })
    t.equal(worker.process.exitCode, null)
  },
)

t.test('a settle that leaves a rejection behind is rolled back, and its job alone is charged', async (t) => {
  const { databaseUrl, submit, query } = await setUp(t)
  const urls = await Promise.all(['a', 'b', 'reject beside the settle', 'c'].map((text) => submit('/notes', text)))
  await start(t, 'worker', { config, databaseUrl })
  for (const [index, url] of urls.entries()) {
    if (index !== 2) t.match(await ended(url), { status: 'succeeded', attempt: 1 })
  }
  await until(async () => (await query("select from accepted.attempt where error ->> 'message' ~ 'Nobody'")).length > 0)
  t.same(await query('select text from effect order by text'), [{ text: 'a' }, { text: 'b' }, { text: 'c' }])
})

t.test(
  'an exception in a timer is charged to its job, and the worker stops in good order to be started anew',
  async (t) => {
    const { databaseUrl, submit } = await setUp(t)
    const worker = await start(t, 'worker', { config, databaseUrl })
    const exited = once(worker.process, 'exit')
    const neighbour = await submit('/notes/performed', 'wait')
    const poison = await submit('/notes/performed', 'throw in a timer')
    t.same(await exited, [1, null])
    t.match(worker.output(), 'Thrown in a timer')
    t.match(await ended(neighbour), { status: 'succeeded', attempt: 1 }, 'it was ended first')
    const again = await start(t, 'worker', { config, databaseUrl })
    t.same(await once(again.process, 'exit'), [1, null])
    await start(t, 'worker', { config, databaseUrl })
    t.match(await ended(poison), {
      ...{ status: 'failed', attempt: 2 },
      error: { code: 'handler-error', message: 'Thrown in a timer' },
    })
  },
)

t.test(
  'a worker whose event loop a handler keeps busy is killed, and says why; the job beside it runs elsewhere',
  async (t) => {
    const { databaseUrl, submit, query } = await setUp(t)
    const stuck = await start(t, 'worker', { config, databaseUrl })
    const exited = once(stuck.process, 'exit')
    const neighbour = await submit('/notes/performed', 'wait')
    await until(async () => (await query("select from accepted.job where state = 'running'")).length === 1)
    await submit('/notes/performed', 'loop')
    t.same(await exited, [null, 'SIGKILL'])
    t.match(stuck.output(), 'has kept the event loop busy for 20 s')
    await query("update pgboss.job set start_after = 'infinity' where data -> 'payload' ->> 'text' = 'loop'")
    await query("update pgboss.job set heartbeat_on = now() - interval '1 hour' where state = 'active'")
    await start(t, 'worker', { config, databaseUrl })
    await until(async () => (await query('select from accepted.suspect')).length > 0)
    await query("update pgboss.job set start_after = 'infinity' where data -> 'payload' ->> 'text' = 'loop'")
    t.match(await ended(neighbour), { status: 'succeeded' })
  },
)
