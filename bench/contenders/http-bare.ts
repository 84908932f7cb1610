// What can be had at most: the same rows, indexes, durability and answer, written by hand for this one route, without a
// framework, validation beyond this body, limits, timeouts or any other feature. Waiting requests share a statement.
import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import pg from 'pg'
import { v7 as uuid7 } from 'uuid'

const maxBatchSize = 128
const connections = 2
const keepMs = 7 * 86_400_000

const setUp = `
  create table idempotency_key (
    principal text, key text, fingerprint bytea not null, job_id uuid not null, created_at timestamptz not null default now(),
    primary key (principal, key)
  );
  create table note (id uuid primary key, text text not null);
  create table job (
    id uuid primary key, operation text not null, status text not null default 'queued', principal text not null,
    idempotency_key text, attempt integer not null default 0, max_attempts integer not null,
    sequence bigint not null default 1, cancel_requested boolean not null default false,
    created_at timestamptz not null default now(), updated_at timestamptz not null default now(),
    expires_at timestamptz not null
  ) with (fillfactor = 45);
  create index on job (principal, id);
  create table queue (
    id uuid not null, name text not null, data jsonb, priority integer not null default 0,
    state text not null default 'created', retry_limit integer not null, retry_delay integer not null,
    start_after timestamptz not null default now(), created_on timestamptz not null default now(),
    keep_until timestamptz not null, primary key (name, id)
  );
  create index on queue (name, priority desc, created_on, start_after) where state < 'd'`

const insert = {
  name: 'insert',
  text: `
    with wanted as (
      select * from unnest($1::uuid[], $2::text[], $3::bytea[], $4::text[]) as wanted (id, key, fingerprint, text)
    ), won as (
      insert into idempotency_key (principal, key, fingerprint, job_id)
      select 'ann', key, fingerprint, id from wanted on conflict do nothing returning job_id
    ), new as materialized (
      select wanted.* from wanted join won on won.job_id = wanted.id
    ), notes as (
      insert into note (id, text) select id, text from new
    ), queued as (
      insert into queue (id, name, data, retry_limit, retry_delay, keep_until)
      select id, 'note.create', jsonb_build_object('noteId', id), 3, 1, now() + interval '14 days' from new
    )
    insert into job (id, operation, principal, idempotency_key, max_attempts, expires_at)
    select id, 'note.create', 'ann', key, 4, now() + interval '7 days' from new
    returning id`,
}

interface Waiting {
  id: string
  key: string
  fingerprint: Buffer
  text: string
  response: ServerResponse
}

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL as string, max: connections })
await pool.query(setUp)

let waiting: Waiting[] = []
let busy = 0

async function commit(): Promise<void> {
  if (busy === connections || waiting.length === 0) return
  busy++
  const batch = waiting.slice(0, maxBatchSize)
  waiting = waiting.slice(maxBatchSize)
  void commit()
  try {
    const columns = [
      batch.map(({ id }) => id),
      ...[batch.map(({ key }) => key), batch.map(({ fingerprint }) => fingerprint), batch.map(({ text }) => text)],
    ]
    const { rows } = await pool.query<{ id: string }>({ ...insert, values: columns })
    const stored = new Set(rows.map(({ id }) => id))
    for (const request of batch) {
      if (stored.has(request.id)) answer(request)
      else await answerRepeated(request)
    }
  } catch (error) {
    console.error(error)
    for (const { response } of batch) if (!response.headersSent) response.writeHead(500).end()
  }
  busy--
  void commit()
}

async function answerRepeated({ key, fingerprint, response }: Waiting): Promise<void> {
  const { rows } = await pool.query<{ job_id: string; fingerprint: Buffer }>({
    ...{ name: 'find', text: `select job_id, fingerprint from idempotency_key where principal = 'ann' and key = $1` },
    values: [key],
  })
  const [held] = rows
  if (!held?.fingerprint.equals(fingerprint)) response.writeHead(422).end()
  else answer({ id: held.job_id, response })
}

function answer({ id, response }: Pick<Waiting, 'id' | 'response'>): void {
  const now = Date.now()
  const at = new Date(now).toISOString()
  const self = `http://${response.req.headers.host}/jobs/${id}`
  const body = JSON.stringify({
    ...{ id, operation: 'note.create', status: 'queued', createdAt: at, updatedAt: at },
    ...{ expiresAt: new Date(now + keepMs).toISOString(), attempt: 0, maxAttempts: 4, sequence: 1 },
    cancelRequested: false,
    links: { self, result: `${self}/result`, events: `${self}/events`, cancel: `${self}/cancel` },
  })
  response
    .writeHead(202, {
      'content-type': 'application/json; charset=utf-8',
      'content-length': Buffer.byteLength(body),
      ...{ 'operation-location': self, 'content-location': self, location: `${self}/result` },
      ...{ 'retry-after': '1', 'cache-control': 'no-store' },
    })
    .end(body)
}

function accept(request: IncomingMessage, response: ServerResponse, json: string): void {
  const { text, ...more } = JSON.parse(json)
  const key = request.headers['idempotency-key']
  if (typeof text !== 'string' || text.length > 200 || Object.keys(more).length > 0 || typeof key !== 'string') {
    response.writeHead(400).end()
    return
  }
  const fingerprint = createHash('sha256')
    .update(`POST\n/notes\napplication/json\n{"text":${JSON.stringify(text)}}`)
    .digest()
  waiting.push({ id: uuid7(), key, fingerprint, text, response })
  // The requests that have arrived in this turn of the event loop share a statement.
  if (waiting.length === 1) setImmediate(commit)
}

const server = createServer((request, response) => {
  let json = ''
  request.setEncoding('utf8')
  request.on('data', (chunk: string) => {
    json += chunk
  })
  request.on('end', () => accept(request, response, json))
})
server.listen(0, '127.0.0.1', () => process.send?.({ port: (server.address() as { port: number }).port }))
