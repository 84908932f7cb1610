// The hand-written minimum between a POST and the final event of its job. It makes the same round trips and commits as
// Accepted, and does nothing else. It is the worker if ROLE is `work`, and the API otherwise.
import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import pg from 'pg'
import { v7 as uuid7 } from 'uuid'
import { idleTimeoutMillis, ready } from '../core/module.ts'

const connectionString = process.env.DATABASE_URL as string
const pool = new pg.Pool({ connectionString, max: 4, idleTimeoutMillis, pipeline: true })

const prepared = (text: string) => {
  const name = text.slice(0, 60)
  return (client: pg.Pool | pg.PoolClient, values: unknown[]) => client.query({ name, text, values })
}

const insertKey = prepared('insert into key (key, id) values ($1, $2)')
const insertNote = prepared('insert into note (id, text) values ($1, $2)')
const insertJob = prepared('with status as (insert into status (id) values ($1)) insert into job (id) values ($1)')
const readStatus = prepared('select id, status from status where id = $1')
const claim = prepared(`update job set is_claimed = true where id = any(array(
  select id from job where not is_claimed order by id limit $1 for update skip locked
)) returning id`)
const lock = prepared('select from status where id = $1 for update')
const complete = prepared(
  `with completed as (update job set is_completed = true where id = $1) update status set status = 'succeeded' where id = $1`,
)
const notify = prepared('select pg_notify($1, $2)')

/** Runs the steps one after another. The statements of one step share a round trip. */
async function inTransaction(steps: readonly ((client: pg.PoolClient) => Promise<unknown>[])[]): Promise<void> {
  const client = await pool.connect()
  try {
    for (const step of steps) await Promise.all(step(client))
  } finally {
    client.release()
  }
}

async function listen(channel: string, onNotification: (payload: string) => void): Promise<void> {
  const client = new pg.Client({ connectionString })
  await client.connect()
  client.on('notification', ({ payload }) => onNotification(payload as string))
  await client.query(`listen ${channel}`)
}

async function accept(key: string, body: string): Promise<string> {
  const id = uuid7()
  await inTransaction([
    (client) => [client.query('begin'), insertKey(client, [key, id])],
    (client) => [insertNote(client, [id, JSON.parse(body).text])],
    (client) => [insertJob(client, [id]), client.query('commit')],
  ])
  void notify(pool, ['work', id])
  return id
}

async function serve(): Promise<number> {
  await pool.query(`
    create table key (key text primary key, id uuid not null);
    create table note (id uuid primary key, text text not null);
    create table status (id uuid primary key, status text not null default 'queued') with (fillfactor = 50);
    create table job (id uuid primary key, is_claimed boolean not null default false, is_completed boolean)
      with (fillfactor = 50);
    create index on job (id) where not is_claimed`)
  const streams = new Set<ServerResponse>()
  await listen('status', async (id) => {
    const { rows } = await readStatus(pool, [id])
    for (const stream of streams) stream.write(`event: status\ndata: ${JSON.stringify(rows[0])}\n\n`)
  })
  const server = createServer(async (request, response) => {
    if (request.method === 'GET') {
      response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders()
      streams.add(response)
      response.on('close', () => streams.delete(response))
      return
    }
    const id = await accept(request.headers['idempotency-key'] as string, await text(request))
    response.writeHead(202, { 'content-type': 'application/json' }).end(JSON.stringify({ id, status: 'queued' }))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

async function settle(id: string): Promise<void> {
  await inTransaction([
    (client) => [client.query('begin'), lock(client, [id])],
    (client) => [complete(client, [id])],
    (client) => [client.query('commit')],
  ])
  void notify(pool, ['status', id])
}

const maxClaimSize = 100

async function work(): Promise<void> {
  let isNotified = false
  let isClaiming = false
  await listen('work', async () => {
    isNotified = true
    if (isClaiming) return
    isClaiming = true
    while (isNotified) {
      isNotified = false
      const { rows } = await claim(pool, [maxClaimSize])
      for (const { id } of rows) void settle(id)
      isNotified ||= rows.length === maxClaimSize
    }
    isClaiming = false
  })
}

if (process.env.ROLE === 'work') {
  await work()
  ready()
} else process.send?.({ port: await serve() })
