import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import * as operations from '../../examples/orders/operations.ts'
import { connectPayments } from '../../examples/orders/payment.ts'
import { createPaymentServer } from '../../examples/orders/payment-service.ts'
import { openOrderServer } from '../../examples/orders/server.ts'
import { migrate } from '../../src/migrate/migrate.ts'
import { RetryAfter } from '../../worker/errors.ts'
import { asRole, beginTransaction, createDatabase, findBlockedBackends } from '../support/database.ts'
import { openJobs } from '../support/jobs.ts'
import { until } from '../support/until.ts'

async function listen(t: Test, server: Server): Promise<string> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(async () => {
    server.close()
    server.closeAllConnections()
    await once(server, 'close')
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** Numbers from 0 to 1 that look random and are the same in each run (a linear congruential generator). */
function createRandom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31
    return state / 2 ** 31
  }
}

/** The order API, with a payment service that fails in every way. */
async function setUp(t: Test, failureRate: number) {
  const databaseUrl = await createDatabase(t, { empty: true })
  const appMigrations = join(import.meta.dirname, '../../examples/orders/migrations')
  await migrate({ url: asRole(databaseUrl, 'migrate'), appMigrations })
  const service = createPaymentServer(failureRate, createRandom(7))
  process.env.PAYMENT_URL = await listen(t, service.server)
  const { default: handlers } = await import('../../examples/orders/handlers.ts')
  const jobs = await openJobs(t, Object.values(operations), databaseUrl)
  const { server, close } = await openOrderServer(asRole(databaseUrl, 'api'))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(close)
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const order = async (key: string, body: object, customer = 'ann') => {
    const response = await fetch(`${url}/orders`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'idempotency-key': key, 'x-customer': customer },
      body: JSON.stringify(body),
    })
    return { status: response.status, headers: response.headers, body: (await response.json()) as { id: string } }
  }
  const work = () => jobs.work(handlers)
  return { ...service, url, close, order, jobs, work }
}

t.test('an order reserves its pieces, is paid, and is the resource of its job', async (t) => {
  const { url, order, jobs, work, payments } = await setUp(t, 0)
  const placed = await order('a', { sku: 'chair', quantity: 2, card: 'visa' })
  t.equal(placed.status, 202)
  t.match(placed.body, { operation: 'order.pay', status: 'queued' })
  const stock = async () => (await jobs.query(`select stock from product where sku = 'chair'`))[0].stock
  t.equal(await stock(), 18)

  const together = await Promise.all([1, 2, 3].map(() => order('b', { sku: 'chair', quantity: 1, card: 'visa' })))
  t.equal(new Set(together.map(({ body }) => body.id)).size, 1, 'requests with the same key are one order')
  t.equal(await stock(), 17)
  const other = await order('b', { sku: 'chair', quantity: 2, card: 'visa' })
  t.match(other, { status: 422, body: { error: /another order/ } }, 'another order with the same key is refused')
  t.equal(
    (await order('b', { sku: 'chair', quantity: 1, card: 'visa' }, 'bob')).status,
    202,
    'keys are those of a customer',
  )
  t.equal(await stock(), 16)
  t.equal((await order('c', { sku: 'chair', quantity: 18, card: 'visa' })).status, 409, 'sold out')
  t.equal((await order('d', { sku: 'chair', quantity: 'x', card: 'visa' })).status, 400)
  const malformed = await fetch(`${url}/orders`, {
    ...{ method: 'POST', body: '{"sku' },
    headers: { 'content-type': 'application/json', 'idempotency-key': 'e' },
  })
  t.match({ status: malformed.status, body: await malformed.json() }, { status: 400, body: { error: /JSON/ } })
  t.same(await jobs.query('select count(*)::int as jobs from accepted.job'), [{ jobs: 3 }], 'nothing of them is kept')

  await work()
  const headers = { 'x-customer': 'ann', prefer: 'wait=30' }
  const result = await fetch(new URL(placed.headers.get('location') as string, url), { headers })
  t.equal(new URL(result.url).pathname, (await jobs.read(placed.body.id)).resource, 'the result leads to the order')
  t.match(await result.json(), { sku: 'chair', quantity: 2, status: 'paid' })
  t.equal((await fetch(`${url}/nothing`)).status, 404)
  t.equal((await fetch(`${url}/orders/1`, { headers })).status, 404)
  for (const { id } of await jobs.query('select id from accepted.job')) await jobs.ended(id)
  t.same(
    [...payments.values()].map(({ charges }) => charges),
    [1, 1, 1],
  )

  await jobs.query(`select accepted.expire('infinity')`)
  const late = await fetch(`${url}/orders`, {
    ...{ method: 'POST', redirect: 'manual', body: JSON.stringify({ sku: 'chair', quantity: 2, card: 'visa' }) },
    headers: { 'content-type': 'application/json', 'idempotency-key': 'a', 'x-customer': 'ann' },
  })
  t.equal(late.status, 303, 'a repeated request leads to the order after the record of its job has expired')
  t.match(await (await fetch(new URL(late.headers.get('location') as string, url), { headers })).json(), {
    ...{ quantity: 2, status: 'paid' },
  })
})

t.test('requests with the same key get the same order, also for the last pieces', async (t) => {
  const { order, jobs } = await setUp(t, 0)
  const lock = await beginTransaction(t, jobs.database, `select from product where sku = 'chair' for update`)
  const together = [1, 2].map(() => order('a', { sku: 'chair', quantity: 20, card: 'visa' }))
  await until(async () => (await findBlockedBackends(jobs.query, '%product%')).length === 2)
  await lock.commit()
  const [one, other] = await Promise.all(together)
  t.same([one?.status, other?.status], [202, 202])
  t.equal(one?.body.id, other?.body.id)
})

t.test('closing the API ends the event streams, and does not wait for jobs', async (t) => {
  const { url, close, order } = await setUp(t, 0)
  const { body } = await order('a', { sku: 'lamp', quantity: 1, card: 'visa' })
  const events = await fetch(`${url}/jobs/${body.id}/events`, { headers: { 'x-customer': 'ann' } })
  await close()
  t.match(await events.text(), 'event: status')
})

t.test('a busy payment service costs no attempt, whether it says for how long or not', async (t) => {
  for (const [status, retryAfter] of [[429], [503], [429, '120'], [503, 'Fri, 31 Dec 2027 23:59:59 GMT']] as const) {
    const server = createServer((_, response) => {
      response.writeHead(status, retryAfter === undefined ? {} : { 'retry-after': retryAfter }).end()
    })
    const payments = connectPayments(await listen(t, server))
    const refused = await payments.refund('key', AbortSignal.timeout(5_000)).catch((error: unknown) => error)
    t.ok(refused instanceof RetryAfter, `${status} ${retryAfter}`)
    if (retryAfter === '120') t.match(refused, { seconds: 120 })
  }
})

const ignoreEnded = (error: { code?: string }) => {
  if (error.code !== '55000') throw error
}

t.test(
  'whatever the payment service does, each order is paid once, or costs nothing and gives back its pieces',
  async (t) => {
    const { order, jobs, work, payments, failed } = await setUp(t, 0.3)
    const cards = ['visa', 'visa', 'visa', 'declined']
    const placed = await Promise.all(
      Array.from({ length: 60 }, (_, n) =>
        order(`o-${n}`, { sku: 'lamp', quantity: 1, card: cards[n % cards.length] }),
      ),
    )
    t.same([...new Set(placed.map(({ status }) => status))], [202])
    await work()
    // Some are canceled before, some while their card is charged, and some are paid or declined already.
    await Promise.all(
      placed
        .filter((_, n) => n % 5 === 0)
        .map(({ body }) => jobs.query('select accepted.cancel($1)', [body.id]).catch(ignoreEnded)),
    )
    for (const { body } of placed) await jobs.ended(body.id)
    for (const { id } of await jobs.query(`select id from accepted.job where operation = 'order.refund'`)) {
      t.match(await jobs.ended(id), { status: 'succeeded' })
    }

    const orders = await jobs.query('select status, payment_key from orders')
    for (const { status, payment_key: key } of orders) {
      const payment = payments.get(key)
      if (status === 'paid') t.match(payment, { charges: 1, isRefunded: false, amountCents: 4900 })
      else t.ok(payment === undefined || payment.isRefunded, `${status}: the customer has the money`)
    }
    const count = (wanted: string) => orders.filter(({ status }) => status === wanted).length
    t.same(await jobs.query(`select stock from product where sku = 'lamp'`), [{ stock: 1000 - count('paid') }])
    t.ok(count('paid') > 0 && count('declined') > 0 && count('canceled') > 0)
    t.equal(count('pending'), 0)
    t.ok(failed.size >= 6, `${[...failed.keys()]} have happened`)
  },
)
