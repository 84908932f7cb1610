import { once } from 'node:events'
import { get as httpGet } from 'node:http'
import { connect } from 'node:net'
import { createInterface } from 'node:readline'
import { json, text } from 'node:stream/consumers'
import swagger from '@fastify/swagger'
import { type AcceptedOptions, accepted, defineOperation } from 'accepted'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { WebSocket } from 'ws'
import { servicePaths } from '../../src/http/route-paths.ts'
import { maxRegistrationMs } from '../support/api.ts'
import { get, post } from '../support/client.ts'
import { asRole, createDatabase, queryOnce } from '../support/database.ts'

const createNote = defineOperation({
  name: 'note.create',
  summary: 'Create a note',
  route: { method: 'POST', url: '/notes' },
  input: Type.Object({ text: Type.String() }),
  accept: async (_trx, entries) => entries.map(({ id, input }) => ({ payload: input, resource: `/notes/${id}` })),
})

type Mount = (app: FastifyInstance, options: AcceptedOptions) => unknown

/** Serves a host app, to which `mount` adds the plugin. */
async function serve(
  t: Test,
  mount: Mount,
  build: (app: FastifyInstance) => unknown = () => {},
  serverOptions: FastifyServerOptions = {},
) {
  const databaseUrl = await createDatabase(t)
  const database = asRole(databaseUrl, 'api')
  const app = Fastify({ pluginTimeout: maxRegistrationMs, ...serverOptions })
  t.teardown(() => app.close())
  await build(app)
  const asOps = { principal: 'anonymous', scopes: ['admin'] }
  await mount(app, { operations: { createNote }, database, authenticate: () => asOps })
  return { app, databaseUrl, url: await app.listen({ host: '127.0.0.1', port: 0 }) }
}

/** Requests every URL that the plugin hands out, starting with a POST. */
async function followLinks(t: Test, base: string, as: (url: string) => string = (url) => url) {
  const { origin, pathname } = new URL(base)
  const local = (url: string) => {
    t.ok(url.startsWith(`${base}/`), `${url} is below ${base}`)
    return as(url)
  }
  const accepted = await post(as(`${base}/notes`), { text: 'a' })
  t.equal(accepted.status, 202)
  const { id, links } = accepted.body
  t.equal(accepted.headers.get('operation-location'), links.self)
  t.equal(accepted.headers.get('content-location'), links.self)
  t.equal(accepted.headers.get('location'), links.result)
  t.match(await get(local(links.self)), { status: 200, body: { id, links } })
  t.equal((await get(local(links.result))).headers.get('location'), links.result)

  const events = await fetch(local(links.events))
  const reader = events.body?.getReader()
  const received = await reader?.read()
  t.match(Buffer.from(received?.value ?? '').toString(), `"self":"${links.self}"`)
  await reader?.cancel()

  const socket = new WebSocket(as(`${base}/events`).replace('http', 'ws'), 'cloudevents.json')
  const [message] = await once(socket, 'message')
  t.match(JSON.parse(String(message)), { source: `${base}/jobs`, data: { links } })
  socket.terminate()

  await post(as(`${base}/notes`), { text: 'b' })
  const page = await get(as(`${base}/jobs?limit=1`))
  t.match(page.body.value[0].links.self, `${base}/jobs/`)
  const next = await get(local(page.body.nextLink))
  t.same(
    next.body.value.map((job: { id: string }) => job.id),
    [id],
  )

  const html = await (await fetch(as(links.self), { headers: { accept: 'text/html' } })).text()
  const monitorPage = as(links.self)
  for (const [, link] of html.matchAll(/(?:href|src|data-events)="([^"]+)"/g)) {
    const found = await fetch(new URL(link as string, monitorPage), { redirect: 'manual' })
    t.ok(found.status === 200 || found.status === 202, `${link}`)
    await found.body?.cancel()
  }

  t.match(await post(local(links.cancel), {}), { status: 200, body: { status: 'canceled', links } })
  const canceled = await get(as(links.result))
  t.match(canceled, { status: 409, body: { instance: `${pathname === '/' ? '' : pathname}/jobs/${id}/result` } })
  t.match(await get(as(`${origin}${canceled.body.type}`)), { status: 200, body: /operation-canceled/ })
  t.match(await post(local(links.retry), {}), { status: 202, body: { retryOf: id } })

  const webhook = await post(as(`${base}/webhooks`), { url: 'https://example.com/hook' })
  t.equal((await get(local(webhook.headers.get('location') as string))).status, 200)
  return { id, links }
}

const mounts: Record<string, [path: string, mount: Mount]> = {
  'with a prefix': ['/api', (app, options) => app.register(accepted, { ...options, prefix: '/api' })],
  'in a scope with a prefix': [
    '/api/v1',
    (app, options) =>
      app.register(async (scope) => void (await scope.register(accepted, options)), { prefix: '/api/v1' }),
  ],
  'with a prefix, in a scope with a prefix that ends in a slash': [
    '/api/jobs-of/us',
    (app, options) =>
      app.register(async (scope) => void (await scope.register(accepted, { ...options, prefix: 'jobs-of/us/' })), {
        prefix: '/api/',
      }),
  ],
}

for (const [name, [path, mount]] of Object.entries(mounts)) {
  t.test(`${name}, all links of the plugin lead to its routes`, async (t) => {
    const { url } = await serve(t, mount)
    await followLinks(t, url + path)
    t.equal((await get(`${url}/jobs`)).status, 404)
  })

  t.test(`${name}, the documents and pages of the plugin lead to its routes`, async (t) => {
    const { url } = await serve(t, (app, options) => mount(app, { ...options, routes: servicePaths }))
    const { body: openapi } = await get(`${url}${path}/openapi.json`)
    t.same(openapi.servers, [{ url: path }])
    t.ok(openapi.paths['/jobs/{id}'])
    t.ok(openapi.paths['/webhooks'].post.callbacks)
    const { body: asyncapi } = await get(`${url}${path}/asyncapi.json`)
    t.match(asyncapi.servers.websocket, { host: new URL(url).host, pathname: path, protocol: 'ws' })
    for (const page of [`${path}/docs`, `${path}/docs/`, `${path}/docs/problems/not-found`]) {
      const html = await (await fetch(url + page)).text()
      for (const [, link] of html.matchAll(/(?:href|src)="([^"]+)"/g)) {
        const found = await fetch(new URL(link as string, url + page))
        t.equal(found.status, 200, `${page} links to ${link}`)
        // A body that is not read keeps its connection open, and the server would wait for it.
        await found.body?.cancel()
      }
    }
    for (const service of ['/metrics', '/health/live', '/health/ready']) {
      t.equal((await get(url + path + service)).status, 200)
    }
  })

  t.test(`${name}, another method gets 405 with Allow`, async (t) => {
    const { url } = await serve(t, mount)
    const answer = await fetch(`${url}${path}/jobs`, { method: 'PUT' })
    t.equal(answer.status, 405)
    t.equal(answer.headers.get('allow'), 'GET, HEAD, OPTIONS')
    const { type } = (await answer.json()) as { type: string }
    t.equal((await get(url + type)).status, 200)
  })
}

const serverOptions: Record<string, FastifyServerOptions> = {
  'exposeHeadRoutes: false': { exposeHeadRoutes: false },
  'ignoreTrailingSlash, ignoreDuplicateSlashes and caseSensitive: false': {
    routerOptions: { ignoreTrailingSlash: true, ignoreDuplicateSlashes: true, caseSensitive: false },
  },
  'trustProxy, ids and log of its own': {
    trustProxy: true,
    genReqId: () => 'the same',
    requestIdHeader: 'x-request-id',
    logger: { level: 'fatal' },
  },
  'a strict validator and small limits': {
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false } },
    bodyLimit: 100,
    onProtoPoisoning: 'ignore',
    routerOptions: { maxParamLength: 40 },
  },
}

for (const [name, options] of Object.entries(serverOptions)) {
  t.test(`in an app with ${name}, all links of the plugin lead to its routes`, async (t) => {
    const mount: Mount = (app, pluginOptions) => app.register(accepted, { ...pluginOptions, prefix: '/api' })
    const { url } = await serve(t, mount, () => {}, options)
    const { links } = await followLinks(t, `${url}/api`)
    const head = await fetch(links.self, { method: 'HEAD' })
    t.equal(head.status, 200)
    t.equal(head.headers.get('allow'), null)
    t.match(
      await fetch(`${url}/api/jobs`, { method: 'OPTIONS' }).then(({ headers }) => headers.get('allow')),
      'GET, HEAD',
    )
  })
}

t.test('behind a proxy that the app trusts, links start with the forwarded origin', async (t) => {
  const mount: Mount = (app, options) => app.register(accepted, { ...options, prefix: '/api' })
  const forwarded = { 'x-forwarded-host': 'shop.example.com', 'x-forwarded-proto': 'https' }
  for (const trustProxy of [true, false]) {
    const { url } = await serve(t, mount, () => {}, { trustProxy })
    const { headers } = await post(`${url}/api/notes`, { text: 'a' }, forwarded)
    const origin = trustProxy ? 'https://shop.example.com' : url
    t.match(headers.get('location'), `${origin}/api/jobs/`)
  }
})

t.test('a public URL with a path is in all links, and its path is in the documents', async (t) => {
  const publicUrl = 'https://example.com/shop/'
  const { url } = await serve(t, (app, options) =>
    app.register(accepted, { ...options, publicUrl, routes: servicePaths, prefix: '/api' }),
  )
  // A proxy removes the path of the public URL.
  await followLinks(t, 'https://example.com/shop/api', (link) => link.replace('https://example.com/shop', url))
  t.same((await get(`${url}/api/openapi.json`)).body.servers, [{ url: '/shop/api' }])
  t.match((await get(`${url}/api/asyncapi.json`)).body.servers.http, { host: 'example.com', pathname: '/shop/api' })
  t.match((await get(`${url}/api/docs`)).body, 'href="/shop/api/docs/static/swagger-ui.css"')
  const problem = await get(`${url}/api/jobs/x`)
  t.match(problem.body, { type: '/shop/api/docs/problems/not-found', instance: '/shop/api/jobs/x' })
  const handshake = { Upgrade: 'websocket', Connection: 'Upgrade', 'Sec-WebSocket-Version': '1' }
  const [refusal] = await once(httpGet(`${url}/api/events`, { headers: handshake }), 'response')
  t.match(await json(refusal), { type: '/shop/api/docs/problems/bad-request' })
})

t.test('the resource of a job is below the prefix', async (t) => {
  const mount: Mount = (app, options) => app.register(accepted, { ...options, prefix: '/api' })
  const { databaseUrl, url } = await serve(t, mount)
  const { body } = await post(`${url}/api/notes`, { text: 'a' })
  await queryOnce(databaseUrl, "update accepted.job set status = 'succeeded', ended_at = now() where id = $1", [
    body.id,
  ])
  const resource = `${url}/api/notes/${body.id}`
  t.equal((await get(body.links.self)).body.resourceLocation, resource)
  const result = await get(body.links.result)
  t.match({ status: result.status, location: result.headers.get('location') }, { status: 303, location: resource })
})

t.test('an app can have the plugin twice, with two prefixes', async (t) => {
  const { app, url } = await serve(t, async (app, options) => {
    await app.register(accepted, { ...options, prefix: '/a' })
    await app.register(accepted, {
      ...options,
      database: asRole(await createDatabase(t), 'api'),
      prefix: '/b',
      routes: servicePaths,
    })
    const third = { ...options, database: asRole(await createDatabase(t), 'api') }
    await app.register(async (scope) => void (await scope.register(accepted, third)), { prefix: '/c' })
  })
  const { id } = await followLinks(t, `${url}/a`)
  await followLinks(t, `${url}/b`)
  await followLinks(t, `${url}/c`)
  t.equal((await get(`${url}/b/jobs/${id}`)).status, 404)
  const { body } = await get(`${url}/b/openapi.json`)
  t.ok(Object.keys(body.paths).every((path) => !path.startsWith('/a')))
  t.ok(app.accepted)
})

const hostDocument = { openapi: { info: { title: 'Host', version: '1' } } }

/** An app with everything that could collide with the plugin. */
async function buildHost(app: FastifyInstance) {
  await app.register(swagger, hostDocument)
  app.decorateRequest('principal')
  app.setErrorHandler((error, _request, reply) => reply.code(418).send({ host: (error as Error).message }))
  app.setNotFoundHandler((_request, reply) => reply.code(404).send({ host: 'not found' }))
  app.setValidatorCompiler(() => () => ({ error: new Error('refused by the host') }))
  app.setSerializerCompiler(() => () => '"serialized by the host"')
  app.setReplySerializer((payload) => JSON.stringify({ host: payload }))
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (_request, _body, done) => done(null, 'host'))
  app.addContentTypeParser('text/csv', { parseAs: 'string' }, (_request, body, done) => done(null, body))
  for (const path of ['/metrics', '/health/live', '/docs', '/openapi.json', '/jobs', '/jobs/:id', '/events']) {
    app.get(path, async () => path)
  }
  app.get('/notes', { schema: { summary: 'List notes' } }, async () => 'notes of the host')
  app.get('/broken', async () => {
    throw new Error('broken')
  })
  app.post('/echo', async ({ body }) => body)
  app.post('/validated', { schema: { body: { type: 'object' } } }, async () => 'valid')
}

t.test(
  'the routes, handlers, parsers and compilers of the host app stay as they are, and do not affect ours',
  async (t) => {
    const routes = { jobs: '/background/jobs', events: '/background/events', webhooks: '/background/webhooks' }
    const { app, url } = await serve(t, (app, options) => app.register(accepted, { ...options, routes }), buildHost)

    for (const path of ['/metrics', '/health/live', '/docs', '/openapi.json', '/jobs', '/events']) {
      t.match(await get(url + path), { status: 200, body: path })
    }
    t.match(await get(`${url}/broken`), { status: 418, body: { host: { host: 'broken' } } })
    t.match(await get(`${url}/none`), { status: 404, body: { host: 'not found' } })
    t.match(await post(`${url}/echo`, {}), { status: 200, body: 'host' })
    t.match(await post(`${url}/validated`, {}), { status: 418, body: { host: { host: 'refused by the host' } } })
    const invalidHost = connect(Number(new URL(url).port), '127.0.0.1')
    invalidHost.end('GET /metrics HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n')
    t.match(await text(invalidHost), /^HTTP\/1.1 200 /)

    const { status, headers, body } = await post(`${url}/notes`, { text: 'a' })
    t.equal(status, 202)
    t.equal(headers.get('location'), `${url}/background/jobs/${body.id}/result`)
    t.match(await get(body.links.self), { status: 200, body: { id: body.id, status: 'queued' } })
    t.match(await post(`${url}/notes`, { text: 1 }), { status: 400, body: { error: { code: 'invalid-body' } } })
    const csv = await fetch(`${url}/notes`, { method: 'POST', headers: { 'content-type': 'text/csv' }, body: 'a' })
    t.equal(csv.status, 415)
    t.match(await csv.json(), { type: '/background/jobs/problems/unsupported-media-type' })
    t.equal((await get(`${url}/background/jobs/problems/unsupported-media-type`)).status, 200)
    const created = await post(`${url}/background/webhooks`, { url: 'https://example.com/' })
    t.match(created.headers.get('location'), `${url}/background/webhooks/`)
    const other = await fetch(`${url}/notes`, { method: 'DELETE' })
    t.match(
      { status: other.status, allow: other.headers.get('allow') },
      { status: 405, allow: 'GET, HEAD, POST, OPTIONS' },
    )

    const { info, paths = {} } = app.swagger() as { info: { title: string }; paths?: object }
    t.equal(info.title, 'Host')
    t.notOk(Object.keys(paths).some((path) => path.startsWith('/background')))
    t.same(Object.keys(Object(paths)['/notes']), ['get'])
  },
)

t.test('without the option routes, the plugin has no routes for health, metrics and docs', async (t) => {
  const { url } = await serve(t, (app, options) => app.register(accepted, options))
  for (const path of ['/metrics', '/health/live', '/docs', '/openapi.json', '/asyncapi.json']) {
    t.equal((await get(url + path)).status, 404, path)
  }
  const { body } = await get(`${url}/jobs/none`)
  t.equal((await get(url + body.type)).status, 200, 'every problem code has a page all the same')
})

t.test('the document of the plugin describes only its own routes', async (t) => {
  const { url } = await serve(
    t,
    (app, options) => app.register(accepted, { ...options, prefix: '/api', routes: { docs: '/docs' } }),
    buildHost,
  )
  const { body } = await get(`${url}/api/openapi.json`)
  t.equal(body.info.title, 'API')
  t.same(Object.keys(body.paths['/notes']), ['post'])
  t.notOk(body.paths['/metrics'])
})

t.test('a configuration file can be passed to the plugin, which ignores the path of its routes', async (t) => {
  const { url } = await serve(t, (app, options) => app.register(accepted, { ...options, routes: './routes.ts' }))
  t.equal((await get(`${url}/jobs`)).status, 200)
})

t.test('routes can be left out', async (t) => {
  const routes = { events: false, webhooks: false, docs: '/docs' } as const
  const { url } = await serve(t, (app, options) => app.register(accepted, { ...options, routes }))
  const { body } = await post(`${url}/notes`, { text: 'a' })
  t.equal((await get(`${url}/events`)).status, 404)
  t.equal((await get(`${url}/webhooks`)).status, 404)
  t.equal((await fetch(body.links.events, { method: 'HEAD' })).status, 200)
  t.same(Object.keys((await get(`${url}/asyncapi.json`)).body.channels), ['job', 'webhook'])
})

for (const [name, options, message] of [
  ['a route that the app has', {}, /already has a route GET \/jobs\b.* prefix.* routes/],
  ['an invalid path', { routes: { jobs: 'jobs' } }, /routes\.jobs must be a path like '\/accepted\/jobs'.*"jobs"/],
  ['no path for jobs', { routes: { jobs: false } }, /routes\.jobs must be a path/],
  ['an unknown option', { routes: { job: '/jobs' } }, /no routes\.job; routes has jobs, /],
  ['a prefix with a parameter', { prefix: '/:tenant' }, /prefix .* without parameters.*'\/:tenant'/],
  [
    'an invalid public URL',
    { publicUrl: 'https://example.com/?a' },
    /publicUrl must be .* not 'https:\/\/example.com\/\?a'/,
  ],
] as [string, object, RegExp][]) {
  t.test(`${name} is refused at the start with a sentence that says what to do`, async (t) => {
    const app = Fastify()
    t.teardown(() => app.close())
    app.get('/jobs', async () => 'jobs of the host')
    const database = asRole(await createDatabase(t), 'api')
    await t.rejects(
      async () => {
        await app.register(accepted, { operations: { createNote }, database, ...options })
      },
      { message },
    )
  })
}

t.test('a route of the host app answers a request for an upgrade as before', async (t) => {
  const { url } = await serve(
    t,
    (app, options) => app.register(accepted, { ...options, routes: servicePaths }),
    (app) => app.post('/echo', async ({ body }) => body).get('/plain', async () => 'plain'),
  )
  const { port } = new URL(url)
  for (const upgrade of ['websocket', 'h2c']) {
    const socket = connect(Number(port), '127.0.0.1')
    const answers = createInterface(socket)[Symbol.asyncIterator]()
    const body = '{"a":1}'
    for (const [line, status, more, content] of [
      ['GET /plain', 200, [], ''],
      ['GET /health/live', 200, [], ''],
      ['POST /echo', 200, ['Content-Type: application/json', `Content-Length: ${body.length}`], body],
      ['GET /jobs/x', 404, [], ''],
      ['GET /plain', 200, [], ''],
    ] as [string, number, string[], string][]) {
      const head = [
        `${line} HTTP/1.1`,
        ...['Host: localhost', 'Connection: Upgrade', `Upgrade: ${upgrade}`, 'Sec-WebSocket-Version: 13'],
        ...['Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==', ...more],
      ]
      socket.write([...head, '', content].join('\r\n'))
      const lines = []
      do lines.push((await answers.next()).value)
      while (lines.at(-1) !== '')
      t.match(lines[0], new RegExp(`HTTP/1.1 ${status} `), `${upgrade}: ${line}`)
    }
    socket.destroy()
  }
})
