import { request } from 'node:http'
import { defineOperation, refuse } from 'accepted'
import fc from 'fast-check'
import t from 'tap'
import Type from 'typebox'
import { createApiServer } from '../../src/http/server.ts'
import { readSettings } from '../../src/settings.ts'
import { get, post } from '../support/client.ts'
import { createDatabase } from '../support/database.ts'
import { createChecker } from '../support/documents.ts'

// Sends random requests to every route of the OpenAPI document. Checks that the responses match the document.
const runsPerRoute = Number(process.env.PROPERTY_RUNS ?? 40)
const seed = Number(process.env.PROPERTY_SEED ?? Date.now() % 2 ** 31)

const operations = {
  create: defineOperation({
    name: 'note.create',
    route: { method: 'POST', url: '/notes' },
    input: Type.Object({
      text: Type.String({ minLength: 1 }),
      tags: Type.Optional(Type.Array(Type.String(), { maxItems: 5 })),
      rank: Type.Optional(Type.Integer({ minimum: 0 })),
      more: Type.Optional(Type.Unknown()),
    }),
    result: Type.Object({ length: Type.Integer() }),
    accept: async (_trx, entries) =>
      entries.map(({ input }) => (input.text === 'no' ? refuse(409, 'unwanted', 'Not this one') : { payload: input })),
  }),
  change: defineOperation({
    name: 'note.change',
    route: { method: 'PATCH', url: '/notes/:id' },
    params: Type.Object({ id: Type.String() }),
    input: Type.Object({ text: Type.String() }),
    accept: async (_trx, entries) => entries.map(({ input }) => ({ payload: input })),
  }),
}

interface GeneratedRequest {
  method: string
  path: string
  headers: [string, string][]
  body: Buffer | undefined
}

interface RawResponse {
  status: number
  headers: Headers
  body: unknown
}

const responseTimeoutMs = 20_000

/** Sends a request with node:http, because fetch corrects or rejects malformed requests. */
function send(url: string, { method, path, headers, body }: GeneratedRequest): Promise<RawResponse> {
  return new Promise((resolve, reject) => {
    // node:http sends an array of headers unchanged and adds no headers.
    const lines = [['host', new URL(url).host], ...headers].flat()
    const outgoing = request(url, { method, path, headers: lines })
    outgoing.setTimeout(responseTimeoutMs, () =>
      outgoing.destroy(new Error(`No response within ${responseTimeoutMs} ms`)),
    )
    outgoing.on('error', reject)
    outgoing.on('response', (incoming) => {
      const responseHeaders = new Headers()
      for (const [name, value] of Object.entries(incoming.headers)) responseHeaders.set(name, String(value))
      const status = incoming.statusCode as number
      const type = responseHeaders.get('content-type') ?? ''
      if (type.startsWith('text/event-stream')) {
        // An event stream may never end, so its body is not read.
        incoming.destroy()
        return resolve({ status, headers: responseHeaders, body: undefined })
      }
      const chunks: Buffer[] = []
      incoming.on('error', reject)
      incoming.on('data', (chunk) => chunks.push(chunk))
      incoming.on('end', () => {
        const text = Buffer.concat(chunks).toString()
        const parsed = text && type.includes('json') ? JSON.parse(text) : text || undefined
        resolve({ status, headers: responseHeaders, body: parsed })
      })
    })
    outgoing.end(body)
  })
}

// biome-ignore lint/suspicious/noExplicitAny: a schema of any shape
type Schema = any

/** Generates values that a schema allows or almost allows. */
function valuesOf(schema: Schema): fc.Arbitrary<unknown> {
  if (schema?.enum) return fc.constantFrom(...schema.enum)
  if (schema?.const !== undefined) return fc.constant(schema.const)
  const alternatives = schema?.anyOf ?? schema?.oneOf
  if (alternatives) return fc.oneof(...alternatives.map(valuesOf))
  switch (schema?.type) {
    case 'string':
      return fc.oneof(strings, fc.constant('no'), fc.webUrl(), fc.uuid())
    case 'integer':
    case 'number':
      return fc.oneof(fc.integer(), fc.double(), fc.maxSafeInteger())
    case 'boolean':
      return fc.boolean()
    case 'array':
      return fc.array(valuesOf(schema.items), { maxLength: 8 })
    case 'object': {
      const members = Object.fromEntries(
        Object.entries(schema.properties ?? {}).map(([name, member]) => [name, valuesOf(member)]),
      )
      return fc.record(members, { requiredKeys: schema.required ?? [] })
    }
    default:
      return fc.jsonValue()
  }
}

/** Includes NUL, lone surrogates and other strings that often break programs. */
const strings = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.string({ maxLength: 40 }),
  fc.constantFrom(
    '',
    '\0',
    '\ud800',
    '__proto__',
    "'; drop table accepted.job; --",
    '../../etc/passwd',
    'x'.repeat(200),
  ),
)

/** Uses all characters that HTTP allows in a header value, and values that the API interprets. */
const headerValues = fc.oneof(
  fc.string({
    unit: fc
      .integer({ min: 0x20, max: 0xff })
      .filter((code) => code !== 0x7f)
      .map((code) => String.fromCharCode(code)),
    maxLength: 60,
  }),
  fc.constantFrom(
    '',
    '"',
    '"1"',
    'W/"1"',
    '*',
    'wait=0',
    'wait=1, return=minimal',
    'respond-async',
    'return=representation',
  ),
  fc.constantFrom('application/json', 'text/html', 'text/event-stream', '*/*;q=0', 'k', '"k"', 'x'.repeat(300)),
)

const invalidBodies = fc.oneof(
  fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
  fc
    .constantFrom(
      '{"text":1e400}',
      '{"__proto__":{}}',
      '{"text":"a","text":"b"}',
      '['.repeat(5_000),
      '{"text":"\\u0000"}',
      '',
    )
    .map((text) => Buffer.from(text)),
)

const bodiesOf = (schema: Schema) =>
  fc.oneof(
    { weight: 3, arbitrary: valuesOf(schema).map((value) => Buffer.from(JSON.stringify(value) ?? '')) },
    { weight: 1, arbitrary: fc.jsonValue().map((value) => Buffer.from(JSON.stringify(value))) },
    { weight: 1, arbitrary: invalidBodies },
  )

const mediaTypes = fc.oneof(
  { weight: 4, arbitrary: fc.constant('application/json') },
  {
    weight: 1,
    arbitrary: fc.constantFrom('text/plain', 'application/json; charset=latin1', 'multipart/form-data', 'x'),
  },
)

/** Generates requests to one route of the document. */
function requestsTo(
  path: string,
  method: string,
  described: Schema,
  ids: readonly string[],
): fc.Arbitrary<GeneratedRequest> {
  const segment = fc.oneof(
    fc.constantFrom(...ids),
    strings.filter((text) => text !== '').map((text) => encodeURIComponent(text.toWellFormed())),
  )
  const parameters: { name: string; in: string }[] = described.parameters ?? []
  const names = (where: string) => parameters.filter((one) => one.in === where).map(({ name }) => name)
  const some = (from: string[]) => fc.subarray([...new Set(from)])
  const query = some([...names('query'), 'unknown']).chain((chosen) =>
    fc.tuple(...chosen.map((name) => strings.map((text) => `${name}=${encodeURIComponent(text.toWellFormed())}`))),
  )
  const headers = some([
    ...names('header').map((name) => name.toLowerCase()),
    'accept',
    'authorization',
    'if-none-match',
  ]).chain((chosen) => fc.tuple(...chosen.map((name) => headerValues.map((value): [string, string] => [name, value]))))
  const schema = described.requestBody?.content?.['application/json']?.schema
  return fc
    .record({
      segments: fc.array(segment, { minLength: 3, maxLength: 3 }),
      query,
      headers,
      body: schema ? fc.option(bodiesOf(schema), { nil: undefined }) : fc.constant(undefined),
      mediaType: mediaTypes,
    })
    .map(({ segments, query, headers, body, mediaType }) => {
      let next = 0
      const filled = path.replace(/\{[^}]+\}/g, () => segments[next++ % segments.length] as string)
      return {
        method: method.toUpperCase(),
        path: filled + (query.length > 0 ? `?${query.join('&')}` : ''),
        headers: body ? [...headers, ['content-type', mediaType]] : headers,
        body,
      }
    })
}

t.test(`no random request gets a 5xx, and every response matches the OpenAPI document (seed ${seed})`, async (t) => {
  const authenticate = () => ({ principal: 'ann', scopes: ['admin'] as const })
  const settings = readSettings({ LOG_LEVEL: 'silent' })
  const app = await createApiServer({ operations, handlers: '', authenticate }, settings, await createDatabase(t))
  t.teardown(() => app.close())
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  const { body: document } = await get(`${url}/openapi.json`)
  const checker = createChecker(document)
  const ids: string[] = []
  for (let n = 0; n < 3; n++) ids.push((await post(`${url}/notes`, { text: 'x' })).body.id)
  ids.push((await post(`${url}/webhooks`, { url: 'https://example.com/' })).body.id)
  const statuses = new Map<number, number>()
  for (const [path, methods] of Object.entries<Record<string, Schema>>(document.paths)) {
    for (const [method, described] of Object.entries(methods)) {
      if (!['get', 'put', 'post', 'delete', 'patch', 'head'].includes(method)) continue
      const property = fc.asyncProperty(requestsTo(path, method, described, ids), async (request) => {
        const response = await send(url, request)
        statuses.set(response.status, (statuses.get(response.status) ?? 0) + 1)
        if (response.status >= 500) throw new Error(`${response.status}: ${JSON.stringify(response.body)}`)
        const violations = checker.violations(method, path, response)
        if (violations.length > 0) throw new Error(violations.join('\n'))
      })
      await t.resolves(fc.assert(property, { numRuns: runsPerRoute, seed }), `${method.toUpperCase()} ${path}`)
    }
  }
  for (const status of [200, 202, 400, 404]) t.ok(statuses.has(status), `at least one response was ${status}`)
  t.comment(
    [...statuses]
      .sort()
      .map(([status, count]) => `${count} × ${status}`)
      .join(', '),
  )
})
