import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, request as httpRequest } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import type { Target } from '../hostile/target.ts'

/** A request whose parameters sqlmap attacks: those that end with `*`. */
export interface AttackedRequest {
  /** What the parameters are, for the report. */
  what: string
  method?: string
  path: string
  headers?: Record<string, string>
  body?: object
  /** Default: a key of a principal with the usual scopes. */
  as?: 'admin' | 'nobody'
  /** The response never ends by itself. */
  isStream?: boolean
}

/** Every kind of parameter that the API reads. */
export const attackedRequests = (id: string): AttackedRequest[] => [
  { what: 'id of a monitor', path: `/jobs/${id}*` },
  { what: 'id of a result', path: `/jobs/${id}*/result` },
  { what: 'id of an event stream', path: `/jobs/${id}*/events`, headers: { accept: 'text/event-stream' } },
  { what: 'id of a cancel', method: 'POST', path: `/jobs/${id}*/cancel`, body: {} },
  { what: 'id of a retry', method: 'POST', path: `/jobs/${id}*/retry`, body: {} },
  {
    what: 'query of the list',
    path: `/jobs?status=succeeded*&operation=todo.create*&parent=${id}*&limit=10*&cursor=a*`,
  },
  { what: 'principal of the list', path: '/jobs?principal=client*', as: 'admin' },
  {
    what: 'query of an event stream',
    path: `/jobs/${id}/events?lastEventId=9*`,
    headers: { accept: 'text/event-stream' },
  },
  { what: 'query of all events', path: '/events?lastEventId=9*', isStream: true },
  { what: 'Last-Event-ID', path: '/events', headers: { 'last-event-id': '9*' }, isStream: true },
  {
    what: 'body and headers of a submission',
    method: 'POST',
    path: '/todos',
    headers: {
      'idempotency-key': 'key*',
      'accepted-webhook': `${id}*`,
      prefer: 'return=minimal*',
      traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01*',
      tracestate: 'vendor=1*',
    },
    body: { title: 'title*', dueBy: '2027-01-01*' },
  },
  {
    what: 'path and body of a submission',
    method: 'POST',
    path: `/todos/${id}*/reminders`,
    body: { email: 'a@b.test*' },
  },
  {
    what: 'headers of a monitor',
    path: `/jobs/${id}`,
    headers: { 'if-none-match': '"9"*', prefer: 'wait=0*', 'x-forwarded-host': 'a.test*', 'x-request-id': 'a*' },
  },
  { what: 'If-Match', method: 'POST', path: `/jobs/${id}/cancel`, headers: { 'if-match': '"9"*' }, body: {} },
  { what: 'Authorization', path: '/jobs', headers: { authorization: 'Bearer accepted_key*' }, as: 'nobody' },
  {
    what: 'items of a batch',
    method: 'POST',
    path: '/batches',
    body: { items: [{ operation: 'todo.create*', input: { title: 'title*' }, key: 'key*' }] },
  },
  {
    what: 'members of an endpoint',
    method: 'POST',
    path: '/webhooks',
    body: { url: 'http://127.0.0.1:9/*', eventTypes: ['job.failed*'], operations: ['todo.create*'] },
    as: 'admin',
  },
  { what: 'id of a link', method: 'POST', path: `/jobs/${id}*/links`, body: {} },
  { what: 'token of a link', path: `/jobs/${id}?token=a*`, as: 'nobody' },
  {
    what: 'members of a key',
    method: 'POST',
    path: '/keys',
    body: { name: 'name*', principal: 'principal*', scopes: ['read*'], operations: ['todo.create*'] },
    as: 'admin',
  },
  { what: 'id of a key', method: 'DELETE', path: `/keys/${id}*`, as: 'admin' },
  { what: 'id of a rotated key', method: 'POST', path: `/keys/${id}*/rotate`, body: {}, as: 'admin' },
  { what: 'id of an endpoint', path: `/webhooks/${id}*`, as: 'admin' },
  { what: 'id of a rotation', method: 'POST', path: `/webhooks/${id}*/rotate`, body: {}, as: 'admin' },
]

export interface SqlmapResult {
  /** The number of parameters that sqlmap has tested and found safe. */
  safe: number
  /** The number of parameters that are marked. */
  marked: number
  seconds: number
  /** One sentence for each finding. */
  findings: string[]
}

export interface SqlmapOptions {
  /** The API, or something in front of it. */
  origin: string
  authorization?: string
  isQuick: boolean
  directory: string
  timeoutMs: number
}

/** Statuses by which the API refuses what sqlmap sends. Without this list, sqlmap gives up at a 401. */
const refusals = [400, 401, 403, 404, 406, 409, 410, 412, 413, 415, 421, 422, 424, 429]

/** Runs sqlmap against one request. */
export async function runSqlmap(request: AttackedRequest, options: SqlmapOptions): Promise<SqlmapResult> {
  const { origin, authorization, isQuick, directory, timeoutMs } = options
  const { method = 'GET', path, body } = request
  const headers = { accept: 'application/json', ...(authorization && { authorization }), ...request.headers }
  const args = [
    ...['--batch', '--disable-coloring', '--ignore-redirects', '--dbms=postgresql'],
    // Otherwise, sqlmap also attacks the path if only headers are marked.
    '--answers=URI injections=N',
    ...(isQuick ? ['--level=1', '--risk=1', '--technique=BES'] : ['--level=2', '--risk=3']),
    ...[`--ignore-code=${refusals}`, `--output-dir=${join(directory, request.what.replaceAll(/\W+/g, '-'))}`],
    ...[`--url=${origin}${path}`, `--method=${method}`],
    ...Object.entries(headers).map(([name, value]) => `--header=${name}: ${value}`),
    ...(body ? ['--header=content-type: application/json', `--data=${JSON.stringify(body)}`] : []),
  ]
  const startedAt = performance.now()
  const child = spawn('sqlmap', args, { stdio: ['ignore', 'pipe', 'ignore'], timeout: timeoutMs })
  const [output] = await Promise.all([text(child.stdout), once(child, 'close')])
  const marked = JSON.stringify([path, body, Object.values(request.headers ?? {})]).split('*').length - 1
  const safe = new Set(output.match(/[(\w) ]* parameter '[^']*' does not seem to be injectable/g)).size
  const found = output.match(/^(Parameter: .*|.*is vulnerable.*)$/gm) ?? []
  const errors = output.match(/^5(?!03)\d\d \(.*$/gm) ?? []
  return {
    safe,
    marked,
    seconds: (performance.now() - startedAt) / 1000,
    findings: [
      ...found.map((line) => `sqlmap: ${line}`),
      ...errors.map((line) => `The API answered ${line}`),
      ...(found.length === 0 && safe !== marked
        ? [
            `sqlmap tested ${safe} of ${marked} parameters; it ended with: ${output.trim().split('\n').slice(-5).join(' ')}`,
          ]
        : []),
    ],
  }
}

/** Starts a relay that ends a stream after its first event, because sqlmap waits for the end of each response. */
export async function relayFirstEvent(port: number) {
  const server = createServer(({ method, url, headers }, response) => {
    const upstream = httpRequest({ host: '127.0.0.1', port, method, path: url, headers }, (answer) => {
      response.writeHead(answer.statusCode as number, answer.headers)
      answer.on('data', (chunk: Buffer) => {
        response.write(chunk)
        if (!chunk.includes('\ndata:')) return
        response.end()
        upstream.destroy()
      })
      answer.on('end', () => response.end())
      answer.on('error', () => {})
    })
    upstream.on('error', () => response.destroy())
    upstream.end()
  })
  return listen(server)
}

/** Starts a server with an injectable parameter. sqlmap must find it, or its silence about the API says nothing. */
export async function startInjectable({ query }: Target) {
  const server = createServer(async ({ url = '' }, response) => {
    const id = decodeURIComponent(url.slice('/jobs/'.length))
    const rows = await query(`select id, status from accepted.job where id::text = '${id}'`).catch(() => undefined)
    const status = rows === undefined ? 400 : rows.length > 0 ? 200 : 404
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify({ rows }))
  })
  return listen(server)
}

async function listen(server: ReturnType<typeof createServer>) {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close() {
      server.close()
      server.closeAllConnections()
    },
  }
}
