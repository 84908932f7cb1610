import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type AcceptedError, createClient, type Job } from 'accepted/client'
import t from 'tap'

// Servers that do what the API never does. Every call either goes on correctly, or ends with one AcceptedError.

type Answer = (response: ServerResponse, request: IncomingMessage) => void

const requests: { route: string; headers: IncomingMessage['headers'] }[] = []
let answers: Record<string, Answer | Answer[]> = {}

/** Starts a server that answers by `answers`: with one answer for a route, or with several in turn. */
async function startServer(): Promise<string> {
  const server = createServer((request, response) => {
    const route = `${request.method} ${request.url}`
    requests.push({ route, headers: request.headers })
    request.resume()
    const found = answers[route]
    const answer = Array.isArray(found) ? (found.length > 1 ? found.shift() : found[0]) : found
    if (answer) answer(response, request)
    else response.writeHead(404).end()
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => void server.close().closeAllConnections())
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const url = await startServer()
const elsewhere = await startServer()
const key = 'secret'
const options = { url, headers: { 'x-api-key': key }, routes: { work: 'POST /work' }, retrySeconds: 0 } as const
const client = createClient(options)

const id = '0199a0a0-0000-7000-8000-000000000001'
const monitor = { id, operation: 'work', status: 'queued', sequence: 1, links: { self: `${url}/jobs/${id}` } } as Job
const succeeded = { ...monitor, status: 'succeeded', sequence: 2, result: { done: true } } as Job

const json =
  (value: unknown, { status = 200, ...headers }: { status?: number; [header: string]: number | string } = {}): Answer =>
  (response) =>
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(value))
const html =
  (status: number): Answer =>
  (response) =>
    response.writeHead(status, { 'content-type': 'text/html' }).end('<h1>Hello</h1>')
const redirect =
  (location: string, status = 302): Answer =>
  (response) =>
    response.writeHead(status, { location }).end()
const startStream = (response: ServerResponse) => response.writeHead(200, { 'content-type': 'text/event-stream' })
const event = (name: string, data: string) => `event: ${name}\nid: 1\ndata: ${data}\n\n`
/** A stream with this content, which ends. */
const stream =
  (content: string): Answer =>
  (response) =>
    startStream(response).end(content)

const work = 'POST /work'
const status = `GET /jobs/${id}`
const events = `GET /jobs/${id}/events`

function answerWith(chosen: typeof answers): void {
  answers = chosen
  requests.length = 0
}

const requestsTo = (route: string) => requests.filter((request) => request.route === route)

const errorOf = (promise: Promise<unknown>): Promise<AcceptedError> =>
  promise.then(
    (value) => Promise.reject(new Error(`It resolved to ${JSON.stringify(value)}`)),
    (error) => error,
  )

const errorsOf = (calls: Promise<unknown>[]): Promise<AcceptedError[]> => Promise.all(calls.map(errorOf))

async function statusesOf(jobs: AsyncIterable<Job>): Promise<string[]> {
  const statuses: string[] = []
  for await (const job of jobs) statuses.push(job.status)
  return statuses
}

const watch = (using = client) => statusesOf(using.watch(id, { timeoutSeconds: 60 }))

t.test('no request is redirected, and nothing with the headers reaches another origin', async (t) => {
  for (const code of [301, 302, 303, 307, 308]) {
    const away = redirect(`${elsewhere}/stolen`, code)
    answerWith({ [work]: away, [status]: away, [events]: away, [`POST /jobs/${id}/cancel`]: away })
    const calls = [client.submit('work', {}), client.get(id), client.result(id), watch(), client.cancel(id)]
    for (const error of await errorsOf(calls)) t.match(error, { code: 'redirected', status: code })
  }
  t.notOk(requests.some(({ route }) => route.includes('stolen')))
})

t.test('a resource that redirects for ever, or to what is no URL, is an error', async (t) => {
  const withResource = json({ ...succeeded, result: undefined, resourceLocation: `${url}/resource` })
  answerWith({ [status]: withResource, 'GET /resource': redirect('/resource') })
  t.match(await errorOf(client.result(id)), { code: 'redirected' })
  t.equal(requestsTo('GET /resource').length, 6)
  answerWith({ [status]: withResource, 'GET /resource': redirect('http://') })
  t.match(await errorOf(client.result(id)), { code: 'network-error' })
})

t.test('a Retry-After of years is not waited for', async (t) => {
  const patient = createClient({ ...options, retrySeconds: 60 })
  const shed = json({}, { status: 503, 'retry-after': '99999999999999999999' })
  answerWith({ [work]: shed, [status]: shed, [events]: shed })
  for (const error of await errorsOf([patient.submit('work', {}), patient.result(id), watch(patient)])) {
    t.match(error, { code: 'http-error', status: 503, retryAfterSeconds: 1e20 })
  }
})

t.test('a Retry-After of 0 does not make polls busy', async (t) => {
  const pending = json(monitor, { 'retry-after': '0' })
  answerWith({ [status]: pending })
  t.match(await errorOf(client.result(id, { timeoutSeconds: 2.5 })), { code: 'timeout' })
  t.ok(requests.length < 8, `${requests.length}`)
})

t.test('an accepted request needs no Location, but its body must be a job', async (t) => {
  answerWith({ [work]: json(monitor, { status: 202 }) })
  t.match(await client.submit('work', {}), { id })
  for (const body of [{}, null, [], 'job', { id, status: 'queued' }]) {
    const other = json(body, { status: 202 })
    answerWith({ [work]: other, [status]: other, [events]: other })
    for (const error of await errorsOf([client.submit('work', {}), client.get(id), client.result(id), watch()])) {
      t.match(error, { code: 'http-error', message: /is no job/ })
    }
  }
  answerWith({ [work]: (response) => response.writeHead(202).end() })
  t.match(await errorOf(client.submit('work', {})), { code: 'network-error' })
})

t.test('a page of HTML is an error with its HTTP status or, instead of an answer, a broken answer', async (t) => {
  for (const [code, expected] of [
    [200, { code: 'network-error', cause: { name: 'SyntaxError' } }],
    [403, { code: 'http-error', status: 403 }],
    [404, { code: 'http-error', status: 404 }],
    [500, { code: 'http-error', status: 500 }],
    [502, { code: 'http-error', status: 502 }],
  ] as const) {
    answerWith({ [work]: html(code), [status]: html(code), [events]: html(code) })
    for (const error of await errorsOf([client.submit('work', {}), client.get(id), client.result(id), watch()])) {
      t.match(error, { name: 'AcceptedError', ...expected })
    }
  }
  answerWith({ 'GET /openapi.json': json({}) })
  await t.rejects(createClient({ url }).submit('work', {}), { message: 'The API has no route for work' })
})

t.test('a key that expires ends watch with a 401, and a function of the headers is asked for a new one', async (t) => {
  const open = stream(`retry: 1\n\n${event('status', JSON.stringify(monitor))}`)
  const refuse = json({ error: { code: 'unauthorized', message: 'No key' } }, { status: 401 })
  answerWith({ [events]: [open, refuse], [status]: refuse })
  const seen: string[] = []
  const follow = async () => {
    for await (const job of client.watch(id)) seen.push(job.status)
  }
  t.match(await errorOf(follow()), { code: 'unauthorized', status: 401 })
  t.same(seen, ['queued'])

  let calls = 0
  const renewing = createClient({ ...options, headers: () => ({ 'x-api-key': `${calls++}` }) })
  const check: Answer = (response, request) => {
    const isValid = Number(request.headers['x-api-key']) > 0
    ;(isValid ? stream(event('status', JSON.stringify(succeeded))) : refuse)(response, request)
  }
  answerWith({ [events]: [open, check] })
  t.same(await watch(renewing), ['queued', 'succeeded'])
})

t.test('a stream that goes on after the last event, or never has one, ends with the job or the timeout', async (t) => {
  const closed = Promise.withResolvers<void>()
  const endless: Answer = (response) => {
    const timer = setInterval(() => response.write(': nothing\n\n'), 20)
    response.on('close', () => {
      clearInterval(timer)
      closed.resolve()
    })
    startStream(response).write(event('status', JSON.stringify(succeeded)))
  }
  answerWith({ [events]: endless })
  t.same(await watch(), ['succeeded'])
  await closed.promise
  const comments: Answer = (response) => {
    const timer = setInterval(() => response.write(': nothing\n\n'), 20)
    response.on('close', () => clearInterval(timer))
    startStream(response)
  }
  answerWith({ [events]: comments })
  t.match(await errorOf(statusesOf(client.watch(id, { timeoutSeconds: 1 }))), { code: 'timeout' })
})

t.test('streams that cannot be used are given up, and the client reads the status instead', async (t) => {
  const unusable: Record<string, Answer> = {
    'no JSON': stream(event('status', '{')),
    'no job': stream(
      `retry: 1\n\n${event('status', '{}')}${event('status', 'null')}${event('progress', '1')}${event('other', '[]')}`,
    ),
    empty: stream(''),
    'closed by the API': stream('retry: 1\n\n'),
    'an event without an end': (response) => {
      startStream(response)
      const data = 'x'.repeat(1024 * 1024)
      const write = () => {
        while (response.write(data));
        response.once('drain', write)
      }
      write()
    },
  }
  const patient = createClient({ ...options, retrySeconds: 60 })
  const one = async ([name, answer]: [string, Answer], index: number) => {
    const job = `/jobs/${index}`
    answers[`GET ${job}/events`] = answer
    answers[`GET ${job}`] = [json(monitor), json(monitor), json(succeeded)]
    t.equal((await statusesOf(patient.watch(url + job, { timeoutSeconds: 60 }))).at(-1), 'succeeded', name)
    t.equal(requestsTo(`GET ${job}/events`).length, 2, name)
  }
  answerWith({})
  await Promise.all(Object.entries(unusable).map(one))
})
