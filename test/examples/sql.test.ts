import { execFile, spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import t, { type Test } from 'tap'
import handlers from '../../examples/sql/handlers.ts'
import * as operations from '../../examples/sql/operations.ts'
import { migrate } from '../../src/migrate/migrate.ts'
import { sqlError } from '../sql/support.ts'
import { asRole, createDatabase, queryOnce } from '../support/database.ts'
import { hasProgram, installPackage } from '../support/debian-package.ts'
import { openJobs } from '../support/jobs.ts'
import { until } from '../support/until.ts'

const execute = promisify(execFile)
const directory = join(import.meta.dirname, '../../examples/sql')

/** The Python of Debian, for which Debian's packages are made. */
const python = '/usr/bin/python3'

const psql = (url: string, ...args: string[]) =>
  execute('psql', ['--no-psqlrc', '--quiet', '--dbname', url, ...args], { cwd: directory })

/** Creates the database of the example, and a role like that of grants.sql. Returns the URL of each. */
async function setUp(t: Test): Promise<{ url: string; shopUrl: string }> {
  installPackage('postgresql-client', () => hasProgram('psql'))
  const url = await createDatabase(t, { empty: true })
  await migrate({ url: asRole(url, 'migrate'), appMigrations: join(directory, 'migrations') })
  const shop = new URL(url)
  shop.username = `shop_${shop.pathname.slice(1)}`
  shop.password = 'secret'
  t.teardown(() => queryOnce(url, `drop owned by ${shop.username}; drop role ${shop.username}`))
  await psql(url, '--set', `role=${shop.username}`, '--set', `password=${shop.password}`, '--file', 'grants.sql')
  return { url, shopUrl: shop.href }
}

t.test('an order gets the state of its job: declined, confirmed by the retry, or canceled', async (t) => {
  const { url, shopUrl } = await setUp(t)
  const jobs = await openJobs(t, Object.values(operations), url)
  const place = async (card: string) => {
    const insert = 'insert into orders (customer, total, card) values ($1, 1, $2) returning id'
    const [{ id }] = await queryOnce(shopUrl, insert, ['eve', card])
    const [job] = await jobs.query('select id from accepted.job where resource = $1', [`/orders/${id}`])
    return { id, job: job.id as string }
  }
  const statusOf = async (id: string) =>
    (await jobs.query('select status from orders where id = $1', [id]))[0].status as string

  const canceled = await place('visa')
  await jobs.query('select accepted.cancel($1)', [canceled.job])
  t.equal(await statusOf(canceled.id), 'pending', 'neither the job nor its order has ended')
  const declined = await place('declined')
  const [{ invalid }] = await jobs.query(`select accepted.enqueue('order.confirm', '{"orderId": "x"}') as invalid`)
  await jobs.query('select accepted.cancel($1)', [invalid])
  await jobs.work(handlers)
  t.match(await jobs.ended(invalid), { status: 'canceled' }, 'an invalid payload does not make abandon fail')
  t.match(await jobs.ended(canceled.job), { status: 'canceled' })
  t.equal(await statusOf(canceled.id), 'canceled')
  t.match(await jobs.ended(declined.job), { status: 'failed', error: { code: 'card-declined' } })
  t.equal(await statusOf(declined.id), 'declined')

  await jobs.query(`update orders set card = 'visa' where id = $1`, [declined.id])
  await jobs.query(`select accepted.pause('order.confirm')`)
  const [{ retry }] = await jobs.query('select accepted.retry($1) as retry', [declined.job])
  t.equal(await statusOf(declined.id), 'declined', 'until the retry has settled, the order is as abandon left it')
  await jobs.query(`select accepted.resume('order.confirm')`)
  t.match(await jobs.ended(retry), { status: 'succeeded' })
  t.equal(await statusOf(declined.id), 'confirmed')

  await jobs.query(`select accepted.pause('order.confirm')`)
  const [{ second }] = await jobs.query('select accepted.retry($1) as second', [declined.job])
  await jobs.query('select accepted.cancel($1)', [second])
  t.match(await jobs.ended(second), { status: 'canceled' })
  t.equal(await statusOf(declined.id), 'confirmed', 'the end of a later retry does not change a confirmed order')
})

t.test('a trigger, psql, Python and a plain pg script enqueue jobs, as a role that may do only that', async (t) => {
  const { url, shopUrl } = await setUp(t)
  const jobs = await openJobs(t, Object.values(operations), url)
  const shop = new pg.Client({ connectionString: shopUrl })
  await shop.connect()
  t.teardown(() => shop.end())

  const insert = `insert into orders (customer, total) values ('eve', 1)`
  await shop.query(`begin; ${insert}; rollback`)
  t.same(await jobs.query('select from accepted.job'), [], 'a rollback leaves no job')
  t.equal(await sqlError(shop.query('select * from accepted.job')).then(({ code }) => code), '42501')
  await shop.query(insert)
  t.match(await jobs.query('select operation, principal, resource, status from accepted.job'), [
    { operation: 'order.confirm', principal: 'eve', resource: /^\/orders\/\d+$/, status: 'queued' },
  ])

  installPackage('python3-psycopg', () => spawnSync(python, ['-c', 'import psycopg']).status === 0)
  const env = { ...process.env, DATABASE_URL: shopUrl }
  const printed = [
    await psql(shopUrl, '--set', 'customer=ann', '--set', 'total=9.90', '--file', 'invoice.sql'),
    await execute(python, ['invoice.py', 'bob', '12'], { cwd: directory, env }),
    await execute(process.execPath, ['invoice.js', 'cem', '7.5'], { cwd: directory, env }),
  ]
  const ids = printed.map(({ stdout }) => stdout.trim())
  const rows = await Promise.all(ids.map(jobs.read))
  t.match(
    rows,
    ['ann', 'bob', 'cem'].map((principal) => ({
      operation: 'invoice.create',
      principal,
      idempotency_key: /^invoice-/,
    })),
  )

  await jobs.work(handlers)
  for (const id of ids) t.match(await jobs.ended(id), { status: 'succeeded' })
  await until(async () => (await jobs.query('select from orders where confirmed_at is null')).length === 0)
  t.match(await jobs.query('select customer from orders join invoice on order_id = orders.id order by 1'), [
    { customer: 'ann' },
    { customer: 'bob' },
    { customer: 'cem' },
  ])
})
