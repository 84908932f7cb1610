import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type AcceptedError, createClient, type Job } from 'accepted/client'
import { JobFailed } from 'accepted/worker'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { apiKey, startApp } from './app.ts'
import type * as operations from './operations.ts'

/** Headers that the host app's own routes and a server of another origin received. */
const received: Record<string, IncomingHttpHeaders> = {}

const elsewhere = createServer((request, response) => {
  received[`elsewhere ${request.url}`] = request.headers
  response.setHeader('content-type', 'application/json').end('{"from":"elsewhere"}')
}).listen(0, '127.0.0.1')
t.teardown(() => void elsewhere.close())
const elsewhereUrl = () => `http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}`

function addRoutes(app: FastifyInstance): void {
  app.get<{ Params: { id: string } }>('/notes/:id', async ({ params, headers }, reply) => {
    received[`note ${params.id}`] = headers
    if (headers['x-api-key'] !== apiKey) return reply.code(401).send({ error: { code: 'no-key', message: 'No key' } })
    return { id: params.id }
  })
  app.get('/file', async (_request, reply) => reply.type('text/csv').send('a,b'))
  app.get('/moved', async (_request, reply) => reply.redirect(`${elsewhereUrl()}/moved`))
  app.get('/gone', async (_request, reply) => reply.code(404).send('<p>nothing'))
}

const app = await startApp(t, { prepare: addRoutes })
const options = { url: app.url, headers: { 'x-api-key': apiKey }, retrySeconds: 5 }
const client = createClient<typeof operations>(options)

/** Returns the error of a promise that rejects. */
const errorOf = (promise: Promise<unknown>): Promise<AcceptedError> =>
  promise.then(
    () => Promise.reject(new Error('The promise has not rejected')),
    (error) => error,
  )

/** Collects all that an iterator yields. */
async function collect(jobs: AsyncIterable<Job>): Promise<Job[]> {
  const all: Job[] = []
  for await (const job of jobs) all.push(job)
  return all
}

t.test('a request resolves to its job, and the job to its inline result', async (t) => {
  const job = await client.submit('words.count', { text: 'one two' }, { params: { language: 'e/n' } })
  t.match(job, { operation: 'words.count', links: { self: `${app.url}/jobs/${job.id}` } })
  const result = await client.result(job)
  t.same(result, { words: 2, language: 'e/n' })
  for (const reference of [job.id, job.links.self, `/jobs/${job.id}`, { id: job.id }]) {
    t.same(await client.result(reference), result)
  }
})

t.test('a job without an inline result resolves to its resource, which is read with the headers', async (t) => {
  const job = await client.submit('note.create', { text: 'a' })
  t.same(await client.result<{ id: string }>(job), { id: job.id })
  t.equal(received[`note ${job.id}`]?.['x-api-key'], apiKey)
})

t.test('a job with a resource and an inline result resolves to its resource, as its result URL does', async (t) => {
  const job = await client.submit('words.count', { text: 'one two' }, { params: { language: 'both' } })
  t.same(await client.result<{ id: string }>(job), { id: 'both' })
  const redirect = await fetch(job.links.result, { headers: options.headers, redirect: 'manual' })
  t.match([redirect.status, redirect.headers.get('location')], [303, `${app.url}/notes/both`])
  t.match(await client.wait(job), { status: 'succeeded', result: { words: 2 }, resourceLocation: /notes.both$/ })
})

/** Creates a job that has succeeded with the given resource. */
async function succeedWith(resource: string): Promise<string> {
  const job = await client.submit('note.create', { text: 'a' })
  await client.result(job)
  await app.database.pool.query('update accepted.job set resource = $2 where id = $1', [job.id, resource])
  return job.id
}

t.test('a resource of another origin, and the target of a redirect, are read without the headers', async (t) => {
  for (const [resource, path] of [
    [`${elsewhereUrl()}/direct`, '/direct'],
    ['/moved', '/moved'],
  ] as const) {
    t.same(await client.result(await succeedWith(resource)), { from: 'elsewhere' })
    t.type(received[`elsewhere ${path}`], 'object')
    t.equal(received[`elsewhere ${path}`]?.['x-api-key'], undefined)
  }
})

t.test('a file resolves to a Blob, and a resource that cannot be read to its HTTP status', async (t) => {
  const file = await client.result<Blob>(await succeedWith('/file'))
  t.equal(await file.text(), 'a,b')
  t.match(file.type, 'text/csv')
  t.match(await errorOf(client.result(await succeedWith('/gone'))), { code: 'http-error', status: 404 })
})

t.test('a failed job rejects with its code, message, details and monitor', async (t) => {
  app.perform('fails', async () => {
    throw new JobFailed('no-luck', 'No luck', { status: 422, details: [{ pointer: '/name' }] })
  })
  const job = await client.submit('steered', { name: 'fails' })
  const error = await errorOf(client.result(job))
  t.match(error, {
    ...{ name: 'AcceptedError', code: 'no-luck', message: 'No luck', status: undefined },
    ...{ details: [{ pointer: '/name' }], job: { id: job.id, status: 'failed' } },
  })
  t.match(await errorOf(client.wait(job)), { code: 'no-luck', job: { id: job.id } })
  app.perform('fails', async () => ({ name: 'lucky' }))
  const again = await client.retry(job)
  t.equal(again.retryOf, job.id)
  t.same(await client.result(again), { name: 'lucky' })
})

t.test('a canceled job and an expired job reject, and an unknown one too', async (t) => {
  const job = await client.submit('idle', {})
  t.equal((await client.cancel(job)).status, 'canceled')
  t.equal((await client.cancel(job.id)).status, 'canceled', 'cancel can be repeated')
  t.match(await errorOf(client.result(job)), { code: 'operation-canceled', job: { status: 'canceled' } })
  t.match(
    (await collect(client.watch(job))).map(({ status }) => status),
    ['canceled'],
  )
  await app.database.pool.query("update accepted.job set expires_at = now() - interval '1 s' where id = $1", [job.id])
  t.match(await errorOf(client.result(job)), { code: 'job-expired', status: 410, job: undefined })
  t.match(await errorOf(collect(client.watch(job))), { code: 'job-expired', status: 410 })
  t.match(await errorOf(client.get('x')), { code: 'not-found', status: 404 })
})

t.test('watch yields the current status and every change, and ends by itself', async (t) => {
  const turns = [Promise.withResolvers<void>(), Promise.withResolvers<void>()] as const
  app.perform('watched', async (job) => {
    await turns[0].promise
    job.progress(50, 'half way')
    await turns[1].promise
    return { name: 'done' }
  })
  const seen: Job[] = []
  for await (const job of client.watch(await client.submit('steered', { name: 'watched' }))) {
    seen.push(job)
    if (job.status === 'running') turns[0].resolve()
    if (job.percentComplete === 50) turns[1].resolve()
  }
  t.match(seen.at(-1), { status: 'succeeded', result: { name: 'done' }, percentComplete: 100 })
  t.ok(
    seen.some(({ status, percentComplete, message, links }) => {
      return status === 'running' && percentComplete === 50 && message === 'half way' && links
    }),
    'progress is merged into the monitor',
  )
  const sequences = seen.map(({ sequence }) => sequence)
  t.same(
    sequences,
    [...new Set(sequences)].sort((a, b) => a - b),
  )
})

t.test('a batch resolves to its counts', async (t) => {
  const items = ['a', 'b c'].map((text) => ({
    ...{ operation: 'words.count', input: { text }, params: { language: 'en' } },
  })) satisfies { operation: 'words.count' }[]
  const batch = await client.submitBatch({ items, onEnd: { operation: 'note.create', input: { text: 'all' } } })
  t.same(await client.result(batch), { total: 2, succeeded: 2, failed: 0, canceled: 0 })
})

t.test('the children of a batch are read page by page, the newest first', async (t) => {
  const items = Array.from({ length: 205 }, () => ({ operation: 'idle' as const, input: {} }))
  const batch = await client.submitBatch({ items })
  const pages: string[] = []
  const recording: typeof fetch = (url, init) => {
    pages.push(`${url}`)
    return fetch(url, init)
  }
  const reading = createClient({ ...options, fetch: recording })
  const children = await collect(reading.children(batch))
  t.equal(children.length, 205)
  t.equal(pages.length, 3)
  t.ok(children.every(({ parent, status }) => parent === batch.id && status === 'queued'))
  const ids = children.map(({ id }) => id)
  t.same(ids, [...new Set(ids)].sort().reverse())
  for (const reference of [batch.id, batch.links.self]) {
    for await (const { id } of client.children(reference)) {
      t.equal(id, ids[0])
      break
    }
  }
  t.same(await collect(client.children(ids[0] as string)), [], 'a job without children')
  await client.cancel(ids[7] as string)
  t.match(await collect(client.children(batch, { status: 'canceled' })), [{ id: ids[7] }])
  t.match(await errorOf(collect(client.children('x'))), { code: 'invalid-parameter', status: 400 })
  await client.cancel(batch)
})

t.test('the same key gets the same job, and another input with it is refused', async (t) => {
  const submit = (text: string) => client.submit('note.create', { text }, { key: 'mine' })
  t.equal((await submit('a')).id, (await submit('a')).id)
  t.match(await errorOf(submit('b')), { code: 'idempotency-key-reused', status: 422 })
  t.not((await client.submit('note.create', { text: 'a' })).id, (await client.submit('note.create', { text: 'a' })).id)
})

t.test('a request that is refused rejects at once, with the violations', async (t) => {
  const error = await errorOf(client.submit('note.create', { text: 1 } as never))
  t.match(error, { code: 'invalid-body', status: 400, details: [{ pointer: '/text' }] })
  t.match(await errorOf(createClient({ ...options, headers: {} }).submit('note.create', {})), { status: 401 })
})

t.test('headers can be a function, which is called for each request', async (t) => {
  let calls = 0
  const headers = async () => ({ 'x-api-key': `${calls++ > 1 ? 'expired' : apiKey}` })
  const job = await createClient({ url: app.url, headers }).submit('idle', {})
  t.equal(calls, 2, 'the first request has read the routes')
  t.equal((await client.cancel(job)).status, 'canceled')
})

t.test('the routes are read once, unless they are given', async (t) => {
  const requests: string[] = []
  const recording: typeof options & { fetch: typeof fetch } = {
    ...options,
    fetch: (url, init) => {
      requests.push(`${init?.method} ${new URL(`${url}`).pathname}`)
      return fetch(url, init)
    },
  }
  const reading = createClient<typeof operations>(recording)
  await Promise.all([reading.submit('idle', {}), reading.submit('idle', {})])
  t.same(requests.sort(), ['DELETE /idle', 'DELETE /idle', 'GET /openapi.json'])
  requests.length = 0
  await createClient<typeof operations>({ ...recording, routes: { idle: 'DELETE /idle' } }).submit('idle', {})
  const untyped = createClient({ ...recording, routes: { getJob: 'GET /jobs/:id' } })
  const job = await untyped.submit('DELETE /idle', {})
  await untyped.get(job.id)
  t.same(requests, ['DELETE /idle', 'DELETE /idle', `GET /jobs/${job.id}`])
})

t.test('what cannot be sent is refused without a request', async (t) => {
  const fetch = () => t.fail('there was a request') as never
  const offline = createClient({ ...options, fetch, routes: { x: 'PUT /x/:id/{part}' } })
  t.match(await errorOf(offline.submit('x', {}, { params: { id: '1' } })), {
    name: 'TypeError',
    message: /params\.part/,
  })
  for (const id of ['', '.', '..']) {
    await t.rejects(offline.submit('x', {}, { params: { id, part: 1 } }), { message: /needs params\.id/ })
  }
  for (const call of [offline.result, offline.get, offline.cancel, offline.retry]) {
    await t.rejects(call(`${elsewhereUrl()}/jobs/1`), { message: /is not a URL of/ })
  }
  await t.rejects(createClient(options).submit('unknown', {}), { message: 'The API has no route for unknown' })
})

t.test('a link to another origin is not followed', async (t) => {
  const job = await client.submit('idle', {})
  const foreign = { ...job, links: { ...job.links, self: `${elsewhereUrl()}/jobs/${job.id}` } }
  t.equal((await client.get(foreign)).id, job.id)
  t.notOk(Object.keys(received).some((key) => key.includes('/jobs/')))
  await client.cancel(job)
})

t.test('a call ends with its signal or after its timeout', async (t) => {
  const job = await client.submit('idle', {})
  for (const call of [client.result, (...args: Parameters<typeof client.watch>) => collect(client.watch(...args))]) {
    t.match(await errorOf(call(job, { timeoutSeconds: 0.1 })), { code: 'timeout' })
    const controller = new AbortController()
    const pending = errorOf(call(job, { signal: controller.signal }))
    controller.abort(new Error('enough'))
    t.equal((await pending).message, 'enough')
    t.equal((await errorOf(call(job, { signal: controller.signal }))).message, 'enough')
  }
  await client.cancel(job)
})

t.test('a loop that leaves early closes its stream', async (t) => {
  const job = await client.submit('idle', {})
  const closed = new Promise<void>((resolve) => {
    app.app.server.once('request', (_request, response) => response.once('close', resolve))
  })
  for await (const { id } of client.watch(job)) {
    t.equal(id, job.id)
    break
  }
  await closed
  await client.cancel(job)
})
