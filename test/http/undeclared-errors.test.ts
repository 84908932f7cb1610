import { defineOperation } from 'accepted'
import Fastify from 'fastify'
import t from 'tap'
import Type from 'typebox'
import { accepted } from '../../src/http/accepted.ts'
import { maxRegistrationMs } from '../support/api.ts'
import { asRole, createDatabase } from '../support/database.ts'
// Loaded before it registers, because Fastify limits the time in which a plugin registers.
import '../../src/http/plugin.ts'

const secret = 'relation "leaked" on db-7.internal'

const errorWith = (properties: object) => Object.assign(new Error(secret), properties)

const throwingGetter = (name: string) =>
  Object.defineProperty(new Error(secret), name, {
    get() {
      throw new Error(secret)
    },
  })

function revokedProxy(): object {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  return proxy
}

function cyclic(): Error {
  const error = new Error(secret)
  error.cause = error
  return error
}

/** What libraries and mistakes throw. */
const thrownValues: Readonly<Record<string, () => unknown>> = {
  'an error': () => new Error(secret),
  'a text': () => secret,
  undefined: () => undefined,
  null: () => null,
  'a number': () => 42,
  'a symbol': () => Symbol(secret),
  'an object without a prototype': () => Object.assign(Object.create(null), { message: secret }),
  'an error whose code is a getter that throws': () => throwingGetter('code'),
  'an error whose message is a getter that throws': () => throwingGetter('message'),
  'an error whose cause is a getter that throws': () => throwingGetter('cause'),
  'an error that is its own cause': cyclic,
  'a revoked proxy': revokedProxy,
  'an AggregateError': () => new AggregateError([new Error(secret)], secret),
  'an error with the status of another server': () => errorWith({ statusCode: 401, headers: { 'set-cookie': secret } }),
  'an error with a status as text': () => errorWith({ statusCode: '404' }),
  'an error with a list of violations': () =>
    errorWith({ validation: [{ instancePath: secret, keyword: secret, message: secret, params: {} }] }),
  'an error with validation: true': () => errorWith({ validation: true }),
  'an error with violations that are null': () => errorWith({ validation: [null] }),
  'an error with the code constructor': () => errorWith({ code: 'constructor' }),
  'an error with the code __proto__': () => errorWith({ code: '__proto__' }),
  'an error of Postgres with a detail': () => errorWith({ code: '23505', detail: secret }),
  'an error that looks like a ProblemError': () => errorWith({ name: 'ProblemError', code: 'not-found', status: 404 }),
}

/** What `accept` or `authenticate` does. Undefined: nothing unusual. */
let misbehave: { in: 'accept' | 'authenticate'; as: () => unknown } | undefined
const misbehaveIn = (place: 'accept' | 'authenticate') => {
  if (misbehave?.in === place) throw misbehave.as()
}

let identity: unknown

const app = Fastify({ pluginTimeout: maxRegistrationMs })
t.teardown(() => app.close())
await app.register(accepted, {
  operations: {
    createNote: defineOperation({
      name: 'note.create',
      route: { method: 'POST', url: '/notes' },
      input: Type.Object({ text: Type.String() }),
      accept: async (_trx, entries) => {
        misbehaveIn('accept')
        return entries.map(({ input }) => ({ payload: input }))
      },
    }),
  },
  database: asRole(await createDatabase(t), 'api'),
  authenticate: () => {
    misbehaveIn('authenticate')
    return identity as string
  },
})

const submit = () => app.inject({ method: 'POST', url: '/notes', payload: { text: 'a' } })

const problemOf = (answer: Awaited<ReturnType<typeof submit>>) => ({
  status: answer.statusCode,
  type: answer.headers['content-type'],
  code: answer.json().error.code,
})

const internalError = { status: 500, type: 'application/problem+json; charset=utf-8', code: 'internal-error' }

for (const [name, create] of Object.entries(thrownValues)) {
  t.test(`when accept throws ${name}, the client gets an internal error without its text`, async (t) => {
    identity = 'ann'
    misbehave = { in: 'accept', as: create }
    const answer = await submit()
    t.same(problemOf(answer), internalError)
    t.notMatch(JSON.stringify([answer.headers, answer.body]), /leaked|db-7/)
  })

  t.test(`when authenticate throws ${name}, the client gets a problem without its text`, async (t) => {
    identity = 'ann'
    misbehave = { in: 'authenticate', as: create }
    const answer = await submit()
    const statusOf = Reflect.get(Object(name.includes('revoked') ? {} : create()), 'statusCode')
    t.same(
      problemOf(answer),
      statusOf === 401
        ? { ...internalError, status: 401, code: 'unauthenticated' }
        : statusOf === '404'
          ? { ...internalError, status: 404, code: 'not-found' }
          : internalError,
    )
    t.notMatch(JSON.stringify([answer.headers, answer.body]), /leaked|db-7/)
  })
}

t.test('a request for which authenticate returns no valid principal gets no access', async (t) => {
  misbehave = undefined
  for (const [returned, code] of [
    [undefined, 'unauthenticated'],
    [null, 'unauthenticated'],
    // The name may come from the client.
    ...['', { principal: '' }].map((value) => [value, 'unauthenticated']),
    ...[0, true, [], {}, { principal: null }].map((value) => [value, 'internal-error']),
    // A text also has the method `includes`.
    [{ principal: 'ann', scopes: 'not-admin' }, 'internal-error'],
  ]) {
    identity = returned
    const answer = await submit()
    t.equal(answer.json().error?.code, code, JSON.stringify(returned))
  }
  identity = { principal: 'ann' }
  t.equal((await submit()).statusCode, 202)
  t.equal((await app.inject('/webhooks')).statusCode, 403, 'without scopes, the principal has none')
})
