// Places an order, and enqueues its invoice in the same transaction. Prints the id of the job.
//
// Usage: DATABASE_URL=postgres://… node invoice.js <customer> <total>
// Needs the package pg.
import pg from 'pg'

const [customer, total] = process.argv.slice(2)

const client = new pg.Client({ connectionString: process.env.DATABASE_URL })
await client.connect()
try {
  await client.query('begin')
  const insert = 'insert into orders (customer, total) values ($1, $2) returning id'
  const { rows: orders } = await client.query(insert, [customer, total])
  const orderId = Number(orders[0].id)
  const enqueue = `select accepted.enqueue('invoice.create', $1, principal => $2, idempotency_key => $3) as job_id`
  const { rows: jobs } = await client.query(enqueue, [{ orderId }, customer, `invoice-${orderId}`])
  await client.query('commit')
  console.log(jobs[0].job_id)
} finally {
  // If the transaction is still open, Postgres rolls it back.
  await client.end()
}
