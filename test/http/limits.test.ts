import { defineOperation } from 'accepted'
import { createWorker, defineHandlers } from 'accepted/worker'
import { pino } from 'pino'
import t from 'tap'
import Type from 'typebox'
import { serve } from '../support/api.ts'
import { ended, get, post } from '../support/client.ts'
import { asRole } from '../support/database.ts'
import { until } from '../support/until.ts'

const Tenant = Type.Object({ tenant: Type.String() })

const call = defineOperation({
  ...{ name: 'call.make', route: { method: 'POST', url: '/calls' }, input: Tenant },
  ...{ retry: { limit: 1, delaySeconds: 3_600, maxDelaySeconds: 7_200 } },
  limit: { key: ({ tenant }) => tenant, rate: '1/1h' },
})

const once = defineOperation({
  ...{ name: 'call.once', input: Tenant, retry: { limit: 0 } },
  limit: { key: ({ tenant }) => tenant, rate: '1/1h' },
})

const hourMs = 3_600_000

t.test('the wait for a rate or for a retry shows in the monitor and in Retry-After', async (t) => {
  const { url, database } = await serve(t, { operations: { call } })
  const handlers = defineHandlers(
    { call },
    {
      'call.make': {
        perform: async ({ payload }) => {
          if (payload.tenant === 'broken') throw new Error('Broken')
        },
      },
    },
  )
  const worker = await createWorker({
    handlers,
    log: pino({ level: 'silent' }),
    database: asRole(database.options.url as string, 'worker'),
  })
  t.teardown(() => worker.stop())
  const submit = async (tenant: string) => (await post(`${url}/calls`, { tenant })).body.links.self as string
  /** Reads the monitor. Returns when the next attempt may start, in hours from now. */
  const readWait = async (monitor: string) => {
    const { body, headers } = await get(monitor)
    t.equal(body.status, 'queued')
    t.equal(headers.get('retry-after'), '30')
    return (Date.parse(body.nextAttemptAt) - Date.now()) / hourMs
  }

  const first = await submit('a')
  t.match(await ended(first), { status: 'succeeded', nextAttemptAt: undefined })
  const [second, third] = [await submit('a'), await submit('a')]
  // Until the worker has tried to claim one of them.
  await until(async () => {
    const waiting = "select from accepted.limit_key where next_at > now() and next_at < 'infinity'"
    return (await database.pool.query(waiting)).rowCount
  })
  const waits = [await readWait(second), await readWait(third)] as const
  t.ok(waits[0] > 0.9 && waits[0] <= 1, `the next job starts in ${waits[0]} hours`)
  t.ok(waits[1] > 1.9 && waits[1] <= 2, `the job after it starts in ${waits[1]} hours`)
  const { rows } = await database.pool.query(
    `select detail, overview.limit_key from accepted.timeline join accepted.job_overview overview on overview.id = job_id
    where job_id = $1 and event = 'due'`,
    [second.split('/').at(-1)],
  )
  t.same(rows, [{ detail: 'waits for the limit of its operation', limit_key: 'a' }])
  t.match((await database.pool.query("select held_keys from accepted.backlog where operation = 'call.make'")).rows, [
    { held_keys: '1' },
  ])

  const broken = await submit('broken')
  await until(async () => (await get(broken)).body.attempt === 1 && (await get(broken)).body.status === 'queued')
  t.ok((await readWait(broken)) > 0.9, 'a retry also waits')
})

t.test('a request without a valid limit key is refused, and stores nothing', async (t) => {
  const { url, database } = await serve(t, { operations: { call } })
  for (const tenant of ['', 'x'.repeat(256)]) {
    const { status, body } = await post(`${url}/calls`, { tenant })
    t.equal(status, 400)
    t.match(body.error, { code: 'invalid-body', message: /^The limit key of 'call\.make' has \d+ characters/ })
  }
  t.same((await database.pool.query('select from accepted.job')).rows, [])
})

t.test('a job of SQL without a valid limit key fails with invalid-payload', async (t) => {
  const { database } = await serve(t, { operations: { once } })
  const worker = await createWorker({
    handlers: defineHandlers({ once }, { 'call.once': { settle: async () => {} } }),
    log: pino({ level: 'silent' }),
    database: asRole(database.options.url as string, 'worker'),
  })
  t.teardown(() => worker.stop())
  // In one transaction, so that one claim finds both: a later job of the same key would wait for an hour.
  await database.pool.query(`select accepted.enqueue('call.once', '{"tenant": ""}') from generate_series(1, 2)`)
  const jobs = await until(async () => {
    const { rows } = await database.pool.query("select error from accepted.job where status = 'failed'")
    return rows.length === 2 && rows
  })
  for (const { error } of jobs)
    t.match(error, { code: 'invalid-payload', message: /The limit key of 'call\.once' has 0/ })
})
