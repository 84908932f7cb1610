import { execFile, spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import t, { type Test } from 'tap'
import handlers from '../../examples/orders/handlers.ts'
import * as operations from '../../examples/orders/operations.ts'
import { migrate } from '../../src/migrate/migrate.ts'
import { sqlError } from '../sql/support.ts'
import { asRole, createDatabase, queryOnce } from '../support/database.ts'
import { hasProgram, installPackage } from '../support/debian-package.ts'
import { openJobs } from '../support/jobs.ts'
import { until } from '../support/until.ts'

const execute = promisify(execFile)
const directory = join(import.meta.dirname, '../../examples/orders')

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
