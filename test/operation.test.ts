import { defineOperation, refuse } from 'accepted'
import t from 'tap'
import Type from 'typebox'
import { collectOperations } from '../src/collect-operations.ts'

const input = Type.Object({})
const named = (name: string) => defineOperation({ name, input })

t.test('the name of an operation consists of lower-case words joined by dots', async (t) => {
  for (const name of ['todo', 'todo.create', 'a.b-c.d1']) t.equal(named(name).name, name)
  for (const name of ['', 'Todo', 'todo create', '.todo', 'todo.', '1todo', 'todo/create', "todo'; drop table job"]) {
    t.throws(() => named(name), { message: /the name must match/ }, name)
  }
})

t.test('an invalid option is rejected, and the message names the option', async (t) => {
  for (const [wrong, message] of [
    [{ timeoutSeconds: 0 }, /timeoutSeconds must be an integer from 1 to 2147483647, not 0/],
    [{ heartbeatSeconds: 9 }, /heartbeatSeconds must be an integer from 10 to/],
    [{ retry: { limit: -1 } }, /retry\.limit/],
    [{ priority: 1.5 }, /priority/],
    [{ groupConcurrency: 2 }, /groupConcurrency requires group/],
    [{ oneByOne: 'yes' as unknown as boolean }, /Operation 'x': oneByOne must be of type boolean, not 'yes'/],
  ] as const) {
    t.throws(() => defineOperation({ name: 'x', input, ...wrong }), { message })
  }
})

t.test('an invalid limit is rejected, and the message names the option', async (t) => {
  const define = (limit: unknown, more = {}) =>
    defineOperation({ ...{ name: 'x', input, limit: limit as { rate: string } }, ...more })
  for (const rate of ['1/1s', '100/m', '1000000/31d']) t.equal(define({ rate }).limit?.rate, rate)
  t.equal(named('x').limit, undefined)
  for (const [wrong, message] of [
    [null, /Operation 'x': limit must be of type object, not null/],
    [{}, /limit requires rate or concurrency/],
    [{ key: () => 'k' }, /limit requires rate or concurrency/],
    [{ key: 'k', concurrency: 1 }, /limit\.key must be of type function/],
    [{ rate: '100' }, /limit\.rate must be a number of starts and a period .*, for example '100\/1m', not '100'/],
    [{ rate: '0/1m' }, /limit\.rate/],
    [{ rate: '1/0s' }, /limit\.rate/],
    [{ rate: '1/32d' }, /limit\.rate/],
    [{ rate: '1000001/1d' }, /limit\.rate/],
    [{ rate: 100 }, /limit\.rate/],
    [{ concurrency: 0 }, /limit\.concurrency must be an integer from 1/],
    [{ concurrency: '2' }, /limit\.concurrency/],
    [{ concurency: 2 }, /limit has no option 'concurency'. Did you mean 'concurrency'/],
  ] as const) {
    t.throws(() => define(wrong), { name: 'TypeError', message })
  }
  const group = { group: () => 'g', groupConcurrency: 2 }
  t.throws(() => define({ concurrency: 1 }, group), { message: /limit cannot be combined with groupConcurrency/ })
})

t.test('an invalid option of coalesce is rejected, and the message names the option', async (t) => {
  const route = { method: 'POST', url: '/x' } as const
  const valid = { key: () => 'k', forSeconds: 60, mode: 'first' } as const
  const define = (coalesce: unknown, more = {}) =>
    defineOperation({ ...{ name: 'x', input, route, coalesce: coalesce as typeof valid }, ...more })
  t.equal(define(valid).coalesce, valid)
  t.equal(named('x').coalesce, undefined)
  for (const [wrong, message] of [
    [null, /Operation 'x': coalesce must be of type object, not null/],
    [{ ...valid, key: 'k' }, /coalesce\.key must be of type function, not 'k'/],
    [{ ...valid, forSeconds: 0 }, /coalesce\.forSeconds must be an integer from 1 to 31622400, not 0/],
    [{ ...valid, forSeconds: 1.5 }, /forSeconds must be an integer/],
    [{ ...valid, forSeconds: '60' }, /forSeconds must be an integer .*, not '60'/],
    [{ ...valid, forSeconds: 31_622_401 }, /forSeconds must be an integer/],
    [{ ...valid, mode: 'both' }, /coalesce\.mode must be 'first' or 'last', not 'both'/],
    [{ key: valid.key, forSeconds: 60 }, /coalesce\.mode must be .*, not undefined/],
    [{ ...valid, forSecond: 60 }, /no option 'forSecond'. Did you mean 'forSeconds'/],
  ] as const) {
    t.throws(() => define(wrong), { name: 'TypeError', message })
  }
  t.throws(() => define(valid, { route: undefined }), { message: /coalesce requires route/ })
  t.throws(() => define(valid, { keepSeconds: 59 }), { message: /forSeconds must be at most keepSeconds, 59/ })
  t.equal(define({ ...valid, mode: 'last' }, { keepSeconds: 59 }).keepSeconds, 59)
})

t.test('collectOperations ignores other exports and rejects two operations with the same name', async (t) => {
  const [a, b] = [named('a'), named('b')]
  t.same([...collectOperations({ a, b, again: a, text: 'x', none: null, schema: input }).keys()], ['a', 'b'])
  t.throws(() => collectOperations({ a, other: named('a') }), /Two operations are named 'a'/)
  t.throws(() => collectOperations({ text: 'x' }), /exports no operation/)
})

t.test('the status of a refusal must be a 4xx', async (t) => {
  t.match(refuse(404, 'none', 'There is none'), { status: 404, code: 'none', message: 'There is none' })
  t.throws(() => refuse(500, 'x', 'x'), /4xx/)
})

t.test('seal is a list of pointers to members that the payload or the result may have', async (t) => {
  const schemas = {
    input: Type.Object({
      card: Type.Object({ number: Type.String(), 'a/b': Type.Unknown() }),
      list: Type.Array(Type.Object({ pin: Type.String() })),
      either: Type.Union([Type.Object({ left: Type.String() }), Type.Object({ right: Type.String() })]),
      any: Type.Record(Type.String(), Type.String()),
    }),
    result: Type.Object({ receipt: Type.Optional(Type.String()) }),
  }
  const define = (seal: unknown) => defineOperation({ name: 'x', ...schemas, seal: seal as string[] })
  t.same(named('x').seal, [])
  for (const pointer of [
    ...['', '/card', '/card/number', '/card/a~1b/c', '/list', '/list/0/pin', '/either/right', '/any/one', '/receipt'],
  ]) {
    t.same(define([pointer]).seal, [pointer])
  }
  t.same(define(['/card/number', '/receipt']).seal, ['/card/number', '/receipt'])
  for (const [wrong, message] of [
    ['/card', /Operation 'x': seal must be a list of JSON pointers/],
    [['card'], /seal must contain JSON pointers like '\/card\/number' \(RFC 6901\), not "card"/],
    [['/card/~'], /must contain JSON pointers/],
    [[1], /not 1/],
    [['/card', '/card'], /seal contains '\/card' twice/],
    [['/card/number', '/card'], /seal must not contain '\/card\/number', because '\/card' seals it too/],
    [['', '/card'], /because '' seals it too/],
    [['/crad'], /seal contains '\/crad', but neither the payload nor the result has such a member/],
    [['/card/nubmer'], /neither the payload nor the result/],
    [['/receipt/number'], /neither the payload nor the result/],
    [['/either/middle'], /neither the payload nor the result/],
  ] as const) {
    t.throws(() => define(wrong), { message })
  }
})
