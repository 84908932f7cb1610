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
  ] as const) {
    t.throws(() => defineOperation({ name: 'x', input, ...wrong }), { message })
  }
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
