import fc from 'fast-check'

/** A generated request. */
export interface GeneratedRequest {
  bytes: Uint8Array
  isHead: boolean
  /** Whether the head and the length of the body are as HTTP demands, so that the API must answer. */
  isWellFormed: boolean
}

/** The ids of jobs that exist. The last belongs to another principal. */
export type KnownIds = readonly string[]

const prototypeNames = ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty']
const methods = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'HEAD', 'OPTIONS', 'TRACE', 'CONNECT', 'PROPFIND', 'QUERY']
const oddMethods = ['get', 'GETX', 'G ET', 'PRI', '__proto__', 'M'.repeat(3_000)]

/** Repeated many times, these texts have been slow for a pattern or a parser. */
const repeatable = [
  'pwd-',
  '"',
  '\\',
  ',',
  ';',
  'a=',
  'wait=',
  '%',
  '%25',
  '[',
  '{',
  '://',
  '@',
  ':',
  'Bearer ',
  '../',
  ' ',
]

const nastyText = fc.oneof(
  fc.constantFrom('', ' ', '\t', '*', '"', '""', '"\\', 'null', 'true', '-0', '1e999', 'W/"1"', '"1"', '"1", *'),
  fc.constantFrom(...prototypeNames, 'é', '\u{1F600}', '\u0000', '\u0080', 'a'.repeat(300), 'a'.repeat(9_000)),
  fc.constantFrom(
    'postgres://user:secret@host/db',
    'Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.x',
    'AKIA1234567890ABCDEF',
  ),
  fc
    .tuple(fc.constantFrom(...repeatable), fc.integer({ min: 2, max: 2_000 }))
    .map(([text, count]) => text.repeat(count)),
  fc.string({ unit: 'binary', maxLength: 40 }),
)

const id = (known: KnownIds) =>
  fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom(...known) },
    fc.constantFrom(...known).map((text) => text.toUpperCase()),
    fc.uuid({ version: 7 }),
    fc.uuid({ version: 4 }),
    fc.constantFrom('0', '-1', 'null', '%00', '%ff', '%2e%2e%2f', '00000000-0000-0000-0000-000000000000'),
    fc.constantFrom(
      ...prototypeNames,
      'a'.repeat(5_000),
      '%',
      "' or 1=1 --",
      '{}',
      'ffffffff-ffff-7fff-bfff-ffffffffffff',
    ),
    nastyText.map((text) => encodeURIComponent(text.toWellFormed())),
  )

const path = (known: KnownIds) => {
  const ofJob = fc.constantFrom('', '/result', '/events', '/cancel', '/retry', '/links', '/', '/nothing')
  return fc.oneof(
    { weight: 6, arbitrary: fc.tuple(id(known), ofJob).map(([text, rest]) => `/jobs/${text}${rest}`) },
    {
      weight: 4,
      arbitrary: fc.constantFrom('/quick', '/failing', '/slow', '/jobs', '/events', '/webhooks', '/batches'),
    },
    fc.constantFrom(
      '/metrics',
      '/health/live',
      '/health/ready',
      '/openapi.json',
      '/asyncapi.json',
      '/docs',
      '/docs/json',
    ),
    fc.constantFrom('/docs/yaml', '/docs/problems/not-found', '/docs/problems/__proto__', '/docs/static/index.css'),
    fc.constantFrom('/', '//', '*', '', '/..', '/%', '/%00', '/jobs//result', 'http://other.example/jobs', '/jobs;a=b'),
    fc.tuple(id(known), id(known)).map(([number, name]) => `/things/${number}/${name}`),
    fc.tuple(fc.integer(), id(known)).map(([number, name]) => `/things/${number}/${name}`),
    id(known).map((text) => `/webhooks/${text}`),
    id(known).map((text) => `/${text}`),
  )
}

const queryNames = [
  'status',
  'operation',
  'limit',
  'cursor',
  'lastEventId',
  'parent',
  'principal',
  'api-version',
  'wait',
]
const queryValues = [
  'failed',
  'quick.run',
  '1',
  '100',
  '0',
  '999999999',
  '-1',
  'x',
  '%00',
  '%ff%fe',
  '[]',
  '%',
  '&',
  '='.repeat(99),
]

const query = fc.oneof(
  { weight: 3, arbitrary: fc.constant('') },
  fc
    .array(
      fc.tuple(
        fc.constantFrom(...queryNames, 'access_token', ...prototypeNames, ''),
        fc.oneof(
          fc.constantFrom(...queryValues),
          nastyText.map((text) => encodeURIComponent(text.toWellFormed())),
        ),
      ),
      { maxLength: 6 },
    )
    .map((pairs) => `?${pairs.map(([name, value]) => `${name}=${value}`).join('&')}`),
)

/** Names of header fields, with values that mean something to the API. */
const fields: Readonly<Record<string, readonly string[]>> = {
  Accept: [
    'application/json',
    'text/event-stream',
    'text/html',
    '*/*',
    'a/b;q=0',
    'application/json;q=2',
    ','.repeat(500),
  ],
  Authorization: ['Bearer x', 'Basic eDp5', 'Bearer', 'Bearer '.repeat(100)],
  'X-Principal': ['attacker', 'nobody', 'other', '__proto__'],
  Prefer: [
    'wait=0',
    'return=minimal',
    'return=representation',
    'respond-async',
    'wait=1',
    'wait=1e9',
    'wait=-1',
    'a="',
  ],
  'If-None-Match': ['"1"', '*', 'W/"2"', '"1", "2", "3"', '"'],
  'If-Match': ['"1"', '*', '"0"', 'x'],
  'Last-Event-ID': ['1', '0', '99999999999999999999', 'MF8wMDAw', 'x', '-1'],
  'Idempotency-Key': ['"a"', 'a', '', '"', '"é"', '"a", "b"', 'k'.repeat(256), '"a";b=c'],
  'Accepted-Webhook': ['x', '00000000-0000-0000-0000-000000000000', ''],
  'Content-Type': [
    'application/json',
    'text/plain',
    'application/json; charset=latin1',
    'multipart/form-data',
    '/',
    '',
  ],
  'Content-Encoding': ['gzip', 'identity', 'zstd', 'gzip, br', 'x'],
  Expect: ['100-continue', '200-ok', '100-continue, x', ''],
  Origin: ['null', 'http://other.example', 'x'],
  traceparent: ['00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', '00-0-0-0', 'x'],
  Range: ['bytes=0-1', `bytes=${'0-1,'.repeat(200)}`],
  'X-Forwarded-Host': ['other.example', ','],
  'X-HTTP-Method-Override': ['DELETE'],
  Cookie: ['a=b', '__proto__=1'],
  TE: ['trailers, deflate;q=0.5'],
  Upgrade: ['websocket', 'h2c', 'WebSocket, x', ''],
  Connection: ['close', 'keep-alive', 'upgrade', 'host', 'x, y'],
  'Sec-WebSocket-Version': ['13', '0', 'x'],
  'Sec-WebSocket-Key': ['dGhlIHNhbXBsZSBub25jZQ==', 'x'],
  'Sec-WebSocket-Protocol': ['cloudevents.json', 'x', ',,'],
  'Sec-WebSocket-Extensions': ['permessage-deflate', 'permessage-deflate; server_max_window_bits=99', 'x;'.repeat(50)],
}

// What Node's parser refuses in a value: such a head is malformed.
const isAllowedInValue = (text: string) => /^[\t -~\x80-\xff]*$/.test(text)

const field = fc.oneof(
  {
    weight: 5,
    arbitrary: fc
      .constantFrom(...Object.entries(fields))
      .chain(([name, values]) => fc.tuple(fc.constant(name), fc.constantFrom(...values))),
  },
  fc.tuple(fc.constantFrom(...Object.keys(fields), ...prototypeNames, 'x'), nastyText),
)

const upgradeFields = [
  ['Upgrade', 'websocket'],
  ['Connection', 'Upgrade'],
  ['Sec-WebSocket-Version', '13'],
  ['Sec-WebSocket-Key', 'dGhlIHNhbXBsZSBub25jZQ=='],
] as [string, string][]

const header = fc.oneof(
  { weight: 8, arbitrary: fc.array(field, { maxLength: 4 }) },
  fc.array(field, { maxLength: 2 }).map((more) => [...upgradeFields, ...more]),
  fc
    .integer({ min: 90, max: 400 })
    .map((count) => Array.from({ length: count }, (_, n) => [`x-${n}`, 'y'] as [string, string])),
  fc.integer({ min: 15_000, max: 40_000 }).map((length) => [['x', 'y'.repeat(length)]] as [string, string][]),
)

const jsonOf = (value: unknown) => JSON.stringify(value)

const jsonBody = fc.oneof(
  { weight: 3, arbitrary: nastyText.map((text) => jsonOf({ text })) },
  { weight: 3, arbitrary: fc.tuple(nastyText, fc.boolean()).map(([text, isDeclared]) => jsonOf({ text, isDeclared })) },
  fc.constant('{"steps":1}'),
  fc.constant('{}'),
  fc.jsonValue({ maxDepth: 4 }).map((extra) => jsonOf({ text: 'x', extra })),
  fc.json({ maxDepth: 6 }),
  fc.integer({ min: 10, max: 200_000 }).map((depth) => `{"text":"x","extra":${'['.repeat(depth)}${']'.repeat(depth)}}`),
  fc
    .integer({ min: 10, max: 50_000 })
    .map((depth) => `{"text":"x","extra":${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}}`),
  fc.integer({ min: 10, max: 50_000 }).map((depth) => '{"a":'.repeat(depth)),
  fc.integer({ min: 2, max: 20_000 }).map((count) => `{${Array(count).fill('"text":"x"').join(',')}}`),
  fc
    .integer({ min: 2, max: 20_000 })
    .map((count) => `{"text":"x",${Array.from({ length: count }, (_, n) => `"m${n}":0`)}}`),
  fc.integer({ min: 2, max: 100_000 }).map((length) => `{"text":"x","extra":${'9'.repeat(length)}}`),
  fc.integer({ min: 2, max: 20_000 }).map((count) => `{"text":"x","extra":[${Array(count).fill('1e400').join(',')}]}`),
  fc
    .constantFrom('9007199254740993', '1e400', '-1e-400', '0.1e-400', '-0', '1E5', '0x1', 'NaN', '01', '1.')
    .map((number) => `{"text":"x","extra":${number}}`),
  fc.constantFrom(...prototypeNames).map((name) => `{"text":"x","extra":{"${name}":{"a":1}}}`),
  fc.constantFrom(...prototypeNames).map((name) => `{"${name}":{"a":1},"text":"x"}`),
  fc.constantFrom('"\\u0000"', '"\\ud800"', '"\\udc00\\ud800"', '"a\\u0000b"').map((text) => `{"text":${text}}`),
  fc.integer({ min: 900_000, max: 1_200_000 }).map((length) => jsonOf({ text: 'x'.repeat(length) })),
  fc.constantFrom(
    '',
    ' ',
    '\uFEFF{"text":"x"}',
    '{"text":"x"',
    'text',
    '[]',
    '1',
    '"x"',
    '{"text":1}',
    '{"text":"x"}{}',
  ),
)

const body = fc.oneof(
  { weight: 5, arbitrary: jsonBody.map((text) => Buffer.from(text)) },
  fc.uint8Array({ maxLength: 2_000 }).map((bytes) => Buffer.from(bytes)),
  fc
    .constantFrom([0xff], [0xc3, 0x28], [0xed, 0xa0, 0x80], [0xf0, 0x9f])
    .map((bytes) => Buffer.concat([Buffer.from('{"text":"'), Buffer.from(bytes), Buffer.from('"}')])),
)

/** How the length of the body is told. The last ones are wrong. */
type Framing = 'none' | 'length' | 'chunked' | 'small-chunks' | 'short' | 'long' | 'both' | 'bad-chunk' | 'nonsense'

const framing = fc.oneof(
  { weight: 8, arbitrary: fc.constant<Framing>('length') },
  fc.constantFrom<Framing>('none', 'chunked', 'small-chunks', 'short', 'long', 'both', 'bad-chunk', 'nonsense'),
)

const toChunks = (bytes: Buffer, size: number) => {
  const parts: Buffer[] = []
  for (let start = 0; start < bytes.length; start += size) {
    const part = bytes.subarray(start, start + size)
    parts.push(Buffer.from(`${part.length.toString(16)}\r\n`), part, Buffer.from('\r\n'))
  }
  return Buffer.concat([...parts, Buffer.from('0\r\n\r\n')])
}

/** The header lines that tell the length of the body, and the body as it is sent. */
function frame(kind: Framing, bytes: Buffer): { lines: string[]; sent: Buffer } {
  const length = (count: number | string) => `Content-Length: ${count}`
  switch (kind) {
    case 'none':
      return { lines: [], sent: Buffer.alloc(0) }
    case 'length':
      return { lines: [length(bytes.length)], sent: bytes }
    case 'chunked':
      return { lines: ['Transfer-Encoding: chunked'], sent: toChunks(bytes, 60_000) }
    case 'small-chunks':
      return { lines: ['Transfer-Encoding: chunked'], sent: toChunks(bytes.subarray(0, 3_000), 1) }
    case 'short':
      return { lines: [length(Math.max(bytes.length - 3, 0))], sent: bytes }
    case 'long':
      return { lines: [length(bytes.length + 3)], sent: bytes }
    case 'both':
      return { lines: [length(bytes.length), 'Transfer-Encoding: chunked'], sent: toChunks(bytes, 60_000) }
    case 'bad-chunk':
      return { lines: ['Transfer-Encoding: chunked'], sent: Buffer.from('zz\r\nfffffffffffffffff\r\n') }
    case 'nonsense':
      return { lines: [length('-1'), length('x')], sent: bytes }
  }
}

const wellFormedFramings: readonly Framing[] = ['none', 'length', 'chunked', 'small-chunks']

/** The request line and what surrounds the header. Most are right. */
const style = fc.oneof(
  { weight: 20, arbitrary: fc.constant({ version: 'HTTP/1.1', end: '\r\n', hosts: ['localhost'] }) },
  fc.constantFrom(
    { version: 'HTTP/1.0', end: '\r\n', hosts: ['localhost'] },
    { version: 'HTTP/1.1', end: '\r\n', hosts: [] },
    { version: 'HTTP/1.1', end: '\r\n', hosts: ['localhost', 'other.example'] },
    { version: 'HTTP/1.1', end: '\r\n', hosts: ['other.example'] },
    { version: 'HTTP/1.1', end: '\r\n', hosts: [''] },
    { version: 'HTTP/1.1', end: '\n', hosts: ['localhost'] },
    { version: 'HTTP/1.1', end: '\r', hosts: ['localhost'] },
    { version: 'HTTP/2.0', end: '\r\n', hosts: ['localhost'] },
    { version: 'HTTP/1.1 x', end: '\r\n', hosts: ['localhost'] },
    { version: '', end: '\r\n', hosts: ['localhost'] },
    { version: 'HTTP/1.1', end: '\r\n', hosts: ['localhost\u0000'] },
  ),
)

/** Returns the method that the route has. */
function methodOf(path: string): string {
  if (/^\/(quick|failing|slow|webhooks|batches)$|\/(cancel|retry|links)$/.test(path)) return 'POST'
  return path.startsWith('/things/') ? 'PUT' : 'GET'
}

// These end or change the connection, so that no answer in HTTP is due.
const mayEndConnection = /^(expect|connection|upgrade|transfer-encoding|content-length)$/i

/** Requests for every route with every method, most of them wrong in some way. */
export const requests = (known: KnownIds): fc.Arbitrary<GeneratedRequest> =>
  fc
    .record({
      method: fc.oneof(
        { weight: 12, arbitrary: fc.constant(undefined) },
        { weight: 6, arbitrary: fc.constantFrom(...methods) },
        fc.constantFrom(...oddMethods),
      ),
      ...{ path: path(known), query, header, body, framing, style },
    })
    .map(({ method: given, path, query, header, body, framing, style: { version, end, hosts } }) => {
      const method = given ?? methodOf(path)
      const hasBody = !['GET', 'HEAD', 'OPTIONS', 'TRACE', 'CONNECT'].includes(method) || framing === 'chunked'
      const { lines, sent } = hasBody ? frame(framing, body) : frame('none', body)
      const hasType = header.some(([name]) => name === 'Content-Type')
      const head = [
        `${method} ${path}${query} ${version}`,
        ...hosts.map((host) => `Host: ${host}`),
        ...(hasBody && !hasType ? ['Content-Type: application/json'] : []),
        ...header.map(([name, value]) => `${name}: ${value}`),
        ...lines,
      ]
      const isWellFormed =
        methods.includes(method) &&
        method !== 'CONNECT' &&
        version === 'HTTP/1.1' &&
        end === '\r\n' &&
        hosts.every(isAllowedInValue) &&
        /^\/[!-~]*$/.test(path + query) &&
        (!hasBody || wellFormedFramings.includes(framing)) &&
        header.every(([name, value]) => !mayEndConnection.test(name) && isAllowedInValue(value))
      const bytes = Buffer.concat([Buffer.from(`${head.join(end)}${end}${end}`, 'latin1'), sent])
      return { bytes, isHead: method === 'HEAD', isWellFormed }
    })
