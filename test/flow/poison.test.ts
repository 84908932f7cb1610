import { once } from 'node:events'
import t, { type Test } from 'tap'
import { ended, post } from '../support/client.ts'
import { start } from '../support/program.ts'
import { until } from '../support/until.ts'
import { config, createFixtureDatabase } from './fixtures/database.ts'

t.jobs = 2

async function setUp(t: Test) {
  const { databaseUrl, database } = await createFixtureDatabase(t)
  const api = await start(t, 'api', { config, databaseUrl })
  const submit = async (path: string, text: string) => (await post(api.url + path, { text })).body.links.self as string
  const query = async (text: string) => (await database.pool.query(text)).rows
  return { databaseUrl, submit, query }
}

t.test('an unhandled rejection fails only the attempt that caused it, and the worker keeps running', async (t) => {
  const { databaseUrl, submit } = await setUp(t)
  const worker = await start(t, 'worker', { config, databaseUrl })
  const neighbor = await submit('/notes/performed', 'wait')
  const poison = await submit('/notes/performed', 'reject late')
  const late = await submit('/notes/performed', 'reject after the end')
  t.match(await ended(poison), {
    ...{ status: 'failed', attempt: 2 },
    error: { code: 'handler-error', message: /^The job failed\. Its id is / },
  })
  t.match(await ended(late), { status: 'succeeded', attempt: 1 })
  t.match(await ended(neighbor), { status: 'succeeded', attempt: 1 })
  await until(() => worker.output().includes('Too late'))
  t.match(await ended(await submit('/notes/performed', 'after the rejections')), { status: 'succeeded' })
  t.equal(worker.process.exitCode, null)
})

t.test(
  'an unhandled rejection rolls back the settle, and only the job that caused it uses up an attempt',
  async (t) => {
    const { databaseUrl, submit, query } = await setUp(t)
    const urls = await Promise.all(['a', 'b', 'reject during settle', 'c'].map((text) => submit('/notes', text)))
    await start(t, 'worker', { config, databaseUrl })
    for (const [index, url] of urls.entries()) {
      if (index !== 2) t.match(await ended(url), { status: 'succeeded', attempt: 1 })
    }
    await until(
      async () => (await query("select from accepted.attempt where error ->> 'message' ~ 'without await'")).length > 0,
    )
    t.same(await query('select text from effect order by text'), [{ text: 'a' }, { text: 'b' }, { text: 'c' }])
  },
)

t.test(
  'after an uncaught exception in a timer, the attempt fails, and the worker exits once its other jobs have ended',
  async (t) => {
    const { databaseUrl, submit, query } = await setUp(t)
    const worker = await start(t, 'worker', { config, databaseUrl })
    const exited = once(worker.process, 'exit')
    const neighbor = await submit('/notes/performed', 'wait')
    const poison = await submit('/notes/performed', 'throw in a timer')
    t.same(await exited, [1, null])
    t.match(worker.output(), 'Thrown in a timer')
    t.match(await ended(neighbor), { status: 'succeeded', attempt: 1 }, 'the other job of the worker has ended')
    await query("select accepted.pause('note.perform')")
    const second = await start(t, 'worker', { config, databaseUrl })
    const secondExited = once(second.process, 'exit')
    await query("select accepted.resume('note.perform')")
    t.same(await secondExited, [1, null])
    await start(t, 'worker', { config, databaseUrl })
    t.match(await ended(poison), {
      ...{ status: 'failed', attempt: 2 },
      error: { code: 'handler-error', message: /^The job failed\. Its id is / },
    })
  },
)

t.test(
  'a worker with a blocked event loop prints the reason and is killed, and its other job runs in another worker',
  async (t) => {
    const { databaseUrl, submit, query } = await setUp(t)
    const blocked = await start(t, 'worker', { config, databaseUrl })
    const exited = once(blocked.process, 'exit')
    const neighbor = await submit('/notes/performed', 'wait')
    await until(async () => (await query("select from accepted.job where status = 'running'")).length === 1)
    const looping = await submit('/notes/performed', 'loop')
    t.same(await exited, [null, 'SIGKILL'])
    t.match(blocked.output(), 'has blocked the event loop for 20 s')
    // Else the second worker would run it too.
    await query(`select accepted.cancel('${looping.split('/').at(-1)}')`)
    await query("update accepted_queue.job set heartbeat_on = now() - interval '1 hour' where state = 'active'")
    await start(t, 'worker', { config, databaseUrl })
    await until(async () => (await query('select from accepted.quarantine')).length > 0)
    t.match(await ended(neighbor), { status: 'succeeded' })
    t.match(await ended(looping), { status: 'canceled' })
  },
)
