import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http'
import { fromDrizzle } from 'accepted/adapters'
import { createHandler } from 'accepted/http'
import { and, eq, gte, sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/node-postgres'
import express, { type ErrorRequestHandler } from 'express'
import pg from 'pg'
import Type, { type Static } from 'typebox'
import { Check } from 'typebox/value'
import * as operations from './operations.ts'
import { orders, products } from './schema.ts'

const NewOrder = Type.Object(
  {
    sku: Type.String(),
    quantity: Type.Integer({ minimum: 1, maximum: 100 }),
    card: Type.String({ minLength: 1 }),
  },
  { additionalProperties: false },
)

const Uuid = Type.String({ format: 'uuid' })

/** Stands in for a login: the request says which customer sends it. */
const customerOf = (headers: IncomingHttpHeaders) => String(headers['x-customer'] ?? 'guest')

export interface OrderServer {
  server: Server
  /** Ends event streams, waits for other requests, and closes the connections to the database. */
  close(): Promise<void>
}

/**
 * Opens the order API. Its jobs are at `/jobs`.
 *
 * @param url the URL of the database
 */
export async function openOrderServer(url: string): Promise<OrderServer> {
  const pool = new pg.Pool({ connectionString: url })
  // Without a listener, the process would end when Postgres closes an idle connection, for example at a restart.
  pool.on('error', (error) => console.error(error.message))
  const db = drizzle(pool)
  const handler = createHandler({
    ...{ operations, database: url },
    authenticate: ({ headers }) => customerOf(headers),
  })
  const accepted = await handler.ready()

  /** Reserves the pieces, inserts the order and enqueues its job: all of it, or nothing. */
  const placeOrder = (customer: string, requestKey: string, { sku, quantity, card }: Static<typeof NewOrder>) =>
    db.transaction(async (tx) => {
      const [product] = await tx
        .update(products)
        .set({ stock: sql`${products.stock} - ${quantity}` })
        .where(and(eq(products.sku, sku), gte(products.stock, quantity)))
        .returning()
      if (!product) return undefined
      const id = randomUUID()
      const job = await accepted.enqueue(
        fromDrizzle(tx, sql),
        operations.payOrder,
        { orderId: id },
        { principal: customer, resource: `/orders/${id}` },
      )
      const order = {
        ...{ id, customer, request_key: requestKey, sku, quantity, card },
        ...{ total_cents: product.price_cents * quantity, payment_key: randomUUID(), job_id: job.id },
      }
      await tx.insert(orders).values(order)
      return { order, job }
    })

  /** Finds the order that an earlier request with this key has placed, and its job, unless its record has expired. */
  const findOrder = async (customer: string, requestKey: string) => {
    const isSame = and(eq(orders.customer, customer), eq(orders.request_key, requestKey))
    const [order] = await db.select().from(orders).where(isSame)
    return order && { order, job: await accepted.get(order.job_id) }
  }

  const app = express()
  app.post('/orders', express.json(), async ({ body, headers }, response) => {
    const requestKey = headers['idempotency-key']
    if (typeof requestKey !== 'string') {
      response.status(400).json({ error: 'Send an Idempotency-Key, so that a repeated request places no second order' })
      return
    }
    if (!Check(NewOrder, body)) {
      response.status(400).json({ error: 'Send {"sku", "quantity", "card"}' })
      return
    }
    const customer = customerOf(headers)
    const placed =
      (await findOrder(customer, requestKey)) ??
      (await placeOrder(customer, requestKey, body).catch((error) => {
        // A request with the same key was faster. Its order counts.
        if (isDuplicate(error)) return findOrder(customer, requestKey)
        throw error
      })) ??
      // It may have taken the last pieces.
      (await findOrder(customer, requestKey))
    if (!placed) {
      response.status(409).json({ error: `There are not ${body.quantity} pieces of ${body.sku} left` })
      return
    }
    const { order, job } = placed
    if (order.sku !== body.sku || order.quantity !== body.quantity || order.card !== body.card) {
      response.status(422).json({ error: 'The Idempotency-Key was used for another order' })
      return
    }
    // The record of a job expires, but the order stays.
    if (!job) {
      response.redirect(303, `/orders/${order.id}`)
      return
    }
    response
      .status(202)
      .set({ location: job.links.result, 'operation-location': job.links.self, 'retry-after': '1' })
      .json(job)
  })
  app.get('/orders/:id', async ({ params, headers }, response) => {
    const isOwn = and(eq(orders.id, params.id), eq(orders.customer, customerOf(headers)))
    // Postgres refuses to compare a column of UUIDs with another text.
    const [order] = Check(Uuid, params.id) ? await db.select().from(orders).where(isOwn) : []
    if (order) response.json({ id: order.id, sku: order.sku, quantity: order.quantity, status: order.status })
    else response.status(404).json({ error: 'There is no such order' })
  })
  // Serves /jobs: status, result, events, cancel and retry. After the app's own routes, before its 404.
  app.use(handler.node)
  app.use(sendError)

  const server = createServer(app)
  const stop = async () => {
    const closed = once(server, 'close')
    server.close()
    // Otherwise the server would wait for the event streams, which may be open for hours.
    await handler.close()
    await closed
    await pool.end()
  }
  let stopping: Promise<void> | undefined
  return { server, close: () => (stopping ??= stop()) }
}

/** Answers instead of Express, which shows the stack of an error. Express tells it apart by its four parameters. */
const sendError: ErrorRequestHandler = (error, _request, response, next) => {
  if (response.headersSent) return next(error)
  const status = error.status >= 400 && error.status < 500 ? error.status : 500
  if (status === 500) console.error(error)
  response.status(status).json({ error: status === 500 ? 'Internal error' : error.message })
}

const isDuplicate = (error: unknown) =>
  (error as { cause?: { constraint?: string } }).cause?.constraint === 'orders_request_unique'

if (import.meta.main) {
  const { server, close } = await openOrderServer(process.env.DATABASE_URL ?? 'postgres://localhost/orders')
  server.listen(Number(process.env.PORT ?? 3000), '127.0.0.1')
  process.once('SIGTERM', close)
}
