import { defineOperation } from 'accepted'
import { defineHandlers } from 'accepted/worker'
import t, { type Test } from 'tap'
import { createEndpoint } from '../../../src/jobs/webhook-endpoint.ts'
import type { EndpointWithSecret } from '../../../src/jobs/webhook-schema.ts'
import { openJobs } from '../../support/jobs.ts'
import { type Receiver, type ReceiverOptions, startReceiver } from '../../support/receiver.ts'
import { until } from '../../support/until.ts'
import { Word } from '../support.ts'

const write = defineOperation({ name: 'word.write', input: Word })
const handlers = defineHandlers({ write }, { 'word.write': { settle: async () => {} } })

async function setUp(t: Test) {
  const jobs = await openJobs(t, [write])
  const register = async (options?: ReceiverOptions): Promise<Receiver & EndpointWithSecret> => {
    const receiver = await startReceiver(t, options)
    const endpoint = await jobs.database.kysely
      .transaction()
      .execute((trx) => createEndpoint(trx, { url: receiver.url }))
    return Object.assign(receiver, endpoint)
  }
  return {
    jobs,
    register,
    work: (operations?: string[]) =>
      jobs.work(handlers, { webhookAllow: ['127.0.0.0/8'], ...(operations && { operations }) }),
    addMany: (count: number) => Promise.all(Array.from({ length: count }, () => jobs.add(write, { word: 'x' }))),
    breaker: async ({ id }: { id: string }) =>
      (await jobs.query('select * from accepted.webhook_endpoint where id = $1', [id]))[0],
    /** Lets the next probe begin now. */
    skipPause: () => jobs.query('update accepted.webhook_endpoint set probe_at = now() where probe_at is not null'),
  }
}

t.test('of 50 endpoints 10 never answer: the others do not wait behind their deliveries', async (t) => {
  const { jobs, register, work, addMany } = await setUp(t)
  const silent = await Promise.all(Array.from({ length: 10 }, () => register({ answers: ['never'] })))
  const others = await Promise.all(Array.from({ length: 40 }, () => register()))
  const count = 8
  await work(['word.write'])
  await Promise.all((await addMany(count)).map((id) => jobs.ended(id)))
  await work(['webhook.deliver'])
  await Promise.all(others.map((receiver) => receiver.arrived(count)))
  for (const receiver of silent) {
    t.ok(receiver.received.length >= 1, 'a silent endpoint is tried')
    // At most 5 at once. When these have timed out, the breaker opens.
    t.ok(receiver.received.length < count, 'its deliveries are still waiting')
  }
})

t.test('after five failed deliveries in a row, one delivery at a time is tried, until one succeeds', async (t) => {
  const { jobs, register, work, addMany, breaker, skipPause } = await setUp(t)
  const answers = [{ status: 500 }]
  const receiver = await register({ answers })
  await work()
  await addMany(20)
  const { opened_at, probe_at, consecutive_failures } = await until(async () => {
    // A claimed delivery is active in the queue before its status is running.
    const [{ active }] = await jobs.query(
      "select count(*)::int as active from accepted_queue.job where state = 'active'",
    )
    const row = await breaker(receiver)
    return row.opened_at && active === 0 && row
  })
  t.ok(probe_at > opened_at)
  const sent = receiver.received.length
  t.ok(sent >= 5 && sent <= 9, `the other deliveries wait: ${sent} were sent, four of them before the fifth had failed`)
  let skippedAt = 0
  for (const probes of [1, 2]) {
    const [{ now }] = await jobs.query('select now()')
    skippedAt = now.getTime()
    await skipPause()
    await until(async () => (await breaker(receiver)).consecutive_failures === consecutive_failures + probes)
    t.equal(receiver.received.length, sent + probes, 'one probe was sent')
  }
  const pause = (await breaker(receiver)).probe_at.getTime() - skippedAt
  t.ok(pause >= 20_000, `the pause has doubled twice: ${pause} ms`)
  const [{ unspent }] = await jobs.query(
    `select count(*)::int as unspent from accepted.job where operation = 'webhook.deliver' and attempt = 0`,
  )
  t.equal(unspent, 20 - sent - 2, 'the deliveries that wait use no attempt')
  answers[0] = { status: 204 }
  await skipPause()
  await receiver.arrived(20)
  t.match(await breaker(receiver), { consecutive_failures: 0, opened_at: null, probe_at: null })
})

t.test('one delivery that an endpoint always refuses does not open the breaker', async (t) => {
  const { jobs, register, work, addMany, breaker } = await setUp(t)
  const receiver = await register({ answers: [{ status: 400 }] })
  await work()
  await addMany(1)
  for (const count of [1, 2, 3, 4, 5, 6]) {
    await receiver.arrived(count)
    await until(async () => {
      const [row] = await jobs.query(
        `select attempt from accepted.job where operation = 'webhook.deliver' and status = 'queued'`,
      )
      return row?.attempt === count
    })
    await jobs.query(`update accepted_queue.job set start_after = now() where name = 'webhook.deliver'`)
  }
  t.match(await breaker(receiver), { consecutive_failures: 1, opened_at: null })
})

t.test('the breaker is shared by all workers: one probe runs at a time', async (t) => {
  const { jobs, register, work, addMany, breaker } = await setUp(t)
  const receiver = await register({ answers: ['never'] })
  await jobs.query('update accepted.webhook_endpoint set consecutive_failures = 5, opened_at = now(), probe_at = now()')
  await work(['word.write'])
  await Promise.all((await addMany(8)).map((id) => jobs.ended(id)))
  await Promise.all([work(['webhook.deliver']), work(['webhook.deliver']), work(['webhook.deliver'])])
  await receiver.arrived(1)
  const claims = () =>
    jobs.database.pool.query(`select * from accepted.claim_deliveries(100, 5, '{}')`).then(({ rows }) => rows)
  t.same(await claims(), [], 'no other claim gets a delivery')
  t.equal(receiver.received.length, 1)
  t.ok((await breaker(receiver)).probe_at > new Date(), 'if the worker dies, another one follows later')
})

t.test('of the deliveries to one endpoint, those that are too many fail with endpoint-backlog-full', async (t) => {
  const { jobs, register, work } = await setUp(t)
  const receiver = await register()
  await jobs.query(
    `update accepted.webhook_endpoint set consecutive_failures = 5, opened_at = now(), probe_at = now() + interval '1 h'`,
  )
  await jobs.query(
    `select accepted.insert_job(accepted.uuid7(), 'webhook.deliver',
      jsonb_build_object('endpointId', $1::text, 'jobId', accepted.uuid7()), 'webhook:' || $1,
      group_id => $1, run_at => now() - interval '1 hour' + n * interval '1 ms')
    from generate_series(1, 10003) n`,
    [receiver.id],
  )
  await work(['webhook.deliver'])
  const failed = await until(async () => {
    const rows = await jobs.query(`select error, run_at from accepted.job where status = 'failed' order by run_at`)
    return rows.length === 3 && rows
  })
  for (const { error } of failed) t.match(error, { code: 'endpoint-backlog-full' })
  const [{ later }] = await jobs.query(
    'select count(*)::int as later from accepted.job where ended_at is null and run_at > $1',
    [failed[0].run_at],
  )
  t.equal(later, 0, 'the deliveries that are due last have failed')
  t.equal(receiver.received.length, 0)
})
