import t from 'tap'
import { AttemptFailed, describeError, JobFailed, RetryAfter } from '../../worker/errors.ts'
import { freePort } from '../support/program.ts'

// The query makes Node.js load the module again, as another copy of the package would.
const copy: typeof import('../../worker/errors.ts') = await import(`../../worker/errors.ts${'?copy'}`)

const shownError = (error: unknown) => describeError(error).message
const shown = (text: string) => shownError(new Error(text))

t.test('text that looks like a credential is removed from the message', async (t) => {
  for (const [message, expected] of [
    ['connect to postgres://ann:s3cr3t@db:5432/x failed', 'connect to postgres://***@db:5432/x failed'],
    ['redis://:s3cr3t@cache timed out', 'redis://***@cache timed out'],
    ['401 for Authorization: Bearer s3cr3t.s3cr3t-s3cr3t', /^401 for Authorization: \*\*\*/],
    ['sent Bearer s3cr3t', 'sent Bearer ***'],
    ['Basic czNjcjN0 was refused', 'Basic *** was refused'],
    ['login with password=s3cr3t user=ann', 'login with password=*** user=ann'],
    ['{"access_token": "s3cr3t", "user": "ann"}', '{"access_token": ***, "user": "ann"}'],
    ["api-key: 's3cr3t with spaces' refused", 'api-key: *** refused'],
    ['X-Api-Key=s3cr3t', 'X-Api-Key=***'],
    ['connect ECONNREFUSED 127.0.0.1:25', 'connect ECONNREFUSED 127.0.0.1:25'],
  ] as const) {
    t.match(shown(message), expected)
    t.notMatch(shown(message), /s3cr3t|czNjcjN0/)
  }
})

t.test('a credential is removed completely, even if it is in nested quotes, or contains a quote or an @', async (t) => {
  for (const message of [
    'answered "{\\"token\\":\\"s3cr3t\\"}"',
    String.raw`{"password": "a\"b s3cr3t", "user": "ann"}`,
    String.raw`{'password': 'a\'b s3cr3t'}`,
    'password="cut off s3cr3t',
    'Authorization: Token s3cr3t',
    'Authorization: Digest username="ann", response="s3cr3t"',
    'connect to postgres://ann:p@s3cr3t@db/x failed',
  ]) {
    t.notMatch(shown(message), /s3cr3t/)
    t.match(shown(message), '***')
  }
})

t.test('a credential is removed even if a NUL character splits its name', async (t) => {
  t.equal(shown('pass\0word=s3cr3t'), 'password=***')
})

t.test('the description of an error contains neither its stack nor its added properties', async (t) => {
  const error = Object.assign(new Error('refused'), { headers: { authorization: 'Bearer x' }, code: 'E' })
  t.same(describeError(error), { code: 'handler-error', message: 'refused' })
})

t.test('the description of what a handler throws contains the causes, without credentials', async (t) => {
  const port = await freePort()
  const refused = await fetch(`http://127.0.0.1:${port}/x`).catch((error) => error)
  t.equal(shownError(refused), `fetch failed: connect ECONNREFUSED 127.0.0.1:${port}`)
  const combined = Object.assign(new AggregateError([new Error('no IPv6'), new Error('no IPv4')], ''), { code: 'E1' })
  t.equal(shownError(new Error('outer', { cause: combined })), 'outer: no IPv6, no IPv4 (E1)')
  t.equal(shownError(new Error('', { cause: Object.assign(new Error(''), { code: 'E2' }) })), 'E2')
  const closed = Object.assign(new Error('other side closed'), { code: 'UND_ERR_SOCKET' })
  t.equal(shownError(new Error('fetch failed', { cause: closed })), 'fetch failed: other side closed (UND_ERR_SOCKET)')

  const inner = new Error('postgres://ann:s3cr3t@db/x refused')
  t.equal(shownError(new Error('query failed', { cause: inner })), 'query failed: postgres://***@db/x refused')
  t.equal(
    shownError(new Error(`query failed: ${closed.message}`, { cause: new Error(closed.message) })),
    'query failed: other side closed',
  )
  t.equal(shownError(new Error('x', { cause: { message: 'no error' } })), 'x')
  const circular = new Error('a')
  circular.cause = new Error('b', { cause: circular })
  t.equal(shownError(circular), 'a: b')
  t.ok(shownError(new Error('x', { cause: new Error('y'.repeat(10_000)) })).length <= 501)
  const hostile = Object.defineProperty(new Error('x'), 'cause', {
    get: () => {
      throw new Error('no')
    },
  })
  t.equal(shownError(hostile), 'x')
  t.equal(shownError(new JobFailed('declined', 'The card was declined', { cause: inner })), 'The card was declined')
  t.equal(shownError(new AttemptFailed('e', 'text', 1, { cause: inner })), 'text')
})

t.test('every thrown value is described by a short text that Postgres can store', async (t) => {
  const refuse = () => {
    throw new Error('not even that')
  }
  for (const thrown of [
    ...[undefined, null, 7, Symbol('s'), { a: 1 }, Object.create(null), { toString: refuse }, { message: 'x' }],
    Object.assign(new Error(), { message: 7 }),
    Object.defineProperty(new Error(), 'message', { get: refuse }),
  ]) {
    t.same(describeError(thrown), {
      code: 'handler-error',
      message: 'A value that is not an Error was thrown',
    })
  }
  t.equal(describeError('text').message, 'text')
  t.equal(shown('a\0b'), 'ab')
  t.ok(shown('\ud800').isWellFormed())
  t.ok(shown('😀'.repeat(10_000)).isWellFormed())
  for (const word of ['x', 'a-', 'password', '"token":"', 'a://']) t.ok(shown(word.repeat(1_000_000)).length <= 501)
})

t.test('JobFailed keeps its code, message, status and details, and rejects invalid values', async (t) => {
  const error = new JobFailed('too-late', 'It is too late', { status: 410, details: [1] })
  t.same(describeError(error), {
    ...{ code: 'too-late', message: 'It is too late', public: true },
    ...{ status: 410, details: [1] },
  })
  t.same(describeError(new JobFailed('x', 'y')), { code: 'x', message: 'y', public: true })
  for (const status of [500, 404.5]) t.throws(() => new JobFailed('x', 'y', { status }), /4xx/)
  for (const code of ['', 'a\0b', 'two words', 'x'.repeat(101)]) t.throws(() => new JobFailed(code, 'y'), /the code/)
  t.throws(() => new RetryAfter(-1), /0 or more/)
})

t.test('the details of a JobFailed are converted to values that jsonb can store', async (t) => {
  const details = [{ 'a\0b': 'c\0d' }, '\ud800x😀', 2n, String.raw`\u0000 \ud800`]
  t.same(describeError(new JobFailed('x', 'y', { details })).details, [
    { ab: 'cd' },
    'x😀',
    '2',
    String.raw`\u0000 \ud800`,
  ])
  const circular: unknown[] = []
  circular.push(circular)
  t.same(describeError(new JobFailed('x', 'y', { details: circular })).details, [])
})

t.test('credentials are removed from the details of a JobFailed', async (t) => {
  const details = [{ password: 's3cr3t', url: 'postgres://ann:s3cr3t@db/x', user: 'ann', tries: 3 }, 'token=s3cr3t']
  t.same(describeError(new JobFailed('x', 'y', { details })).details, [
    { password: '***', url: 'postgres://***@db/x', user: 'ann', tries: 3 },
    'token=***',
  ])
})

t.test('credentials are removed from details at any depth, and from pairs of a name and a value', async (t) => {
  const details = [
    { password: { value: 's3cr3t' }, headers: { cookie: ['s3cr3t'] }, tokens: ['s3cr3t'] },
    [
      ['authorization', 's3cr3t'],
      ['accept', '*/*'],
    ],
    [
      { name: 'password', value: 's3cr3t' },
      { name: 'todo', value: 'milk' },
    ],
    { tokens: 12 },
  ]
  t.same(describeError(new JobFailed('x', 'y', { details })).details, [
    { password: '***', headers: { cookie: '***' }, tokens: '***' },
    [
      ['authorization', '***'],
      ['accept', '*/*'],
    ],
    [
      { name: 'password', value: '***' },
      { name: 'todo', value: 'milk' },
    ],
    { tokens: 12 },
  ])
})

t.test('JobFailed and RetryAfter of another copy of the package are recognised', async (t) => {
  t.not(copy.JobFailed, JobFailed)
  const failed = new copy.JobFailed('too-late', 'It is too late', { status: 410 })
  t.ok(failed instanceof JobFailed)
  t.same(describeError(failed), { code: 'too-late', message: 'It is too late', public: true, status: 410 })
  t.ok(new copy.RetryAfter(5) instanceof RetryAfter)
  t.notOk(failed instanceof RetryAfter)
  t.notOk(new copy.RetryAfter(5) instanceof JobFailed)
})

t.test("instanceof also works for an app's own subclass", async (t) => {
  class TooLate extends JobFailed {}
  t.ok(new TooLate('too-late', 'x') instanceof TooLate)
  t.ok(new TooLate('too-late', 'x') instanceof JobFailed)
  t.notOk(new JobFailed('too-late', 'x') instanceof TooLate)
})

t.test('a value that only looks like a JobFailed or a RetryAfter is not taken for one', async (t) => {
  const brand = Symbol.for('accepted.JobFailed')
  const valid = { [brand]: true, code: 'x', message: 'y' }
  t.ok(valid instanceof JobFailed)
  for (const forged of [
    ...[{ [brand]: true }, { ...valid, [brand]: 1 }, { ...valid, code: 'two words' }, { ...valid, message: 7 }],
    ...[
      { ...valid, status: 200 },
      { ...valid, status: '404' },
      { ...valid, details: 'x' },
    ],
    Object.defineProperty({ [brand]: true, message: 'y' }, 'code', {
      get() {
        throw new Error('not readable')
      },
    }),
  ]) {
    t.notOk(forged instanceof JobFailed)
    t.equal(describeError(forged).public, undefined)
  }
  for (const seconds of [undefined, -1, '5', Number.NaN]) {
    t.notOk({ [Symbol.for('accepted.RetryAfter')]: true, seconds } instanceof RetryAfter)
  }
})
