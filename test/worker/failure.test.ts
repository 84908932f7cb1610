import t from 'tap'
import { describeError, JobFailed, RetryAfter } from '../../worker/failure.ts'

const shown = (text: string) => describeError(new Error(text)).message

t.test('what looks like a credential is taken out of the message', async (t) => {
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

t.test('neither stack nor own properties of an error are shown', async (t) => {
  const error = Object.assign(new Error('refused'), { headers: { authorization: 'Bearer x' }, code: 'E' })
  t.same(describeError(error), { code: 'handler-error', message: 'refused' })
})

t.test('any value may be thrown, and the text is fit for Postgres and short', async (t) => {
  for (const thrown of [undefined, null, 7, 'text', Symbol('s'), { a: 1 }, Object.create(null)]) {
    t.type(describeError(thrown).message, 'string')
  }
  t.equal(shown('a\0b'), 'ab')
  t.ok(shown('\ud800').isWellFormed())
  t.ok(shown('😀'.repeat(10_000)).isWellFormed())
  t.ok(shown('x'.repeat(10_000)).length <= 501)
})

t.test('JobFailed says what it was told', async (t) => {
  const error = new JobFailed('too-late', 'It is too late', { status: 410, details: [1] })
  t.same(describeError(error), { code: 'too-late', message: 'It is too late', status: 410, details: [1] })
  t.same(describeError(new JobFailed('x', 'y')), { code: 'x', message: 'y' })
  t.throws(() => new JobFailed('x', 'y', { status: 500 }), /4xx/)
  t.throws(() => new RetryAfter(-1), /0 or more/)
})
