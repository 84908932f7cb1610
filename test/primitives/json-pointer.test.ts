import t from 'tap'
import { parsePointer, replaceAt } from '../../src/primitives/json-pointer.ts'

t.test('a pointer is parsed as RFC 6901 says', async (t) => {
  for (const [pointer, tokens] of [
    ['', []],
    ['/', ['']],
    ['/foo/0', ['foo', '0']],
    ['/a~1b/m~0n/~01', ['a/b', 'm~n', '~1']],
    ['/ /"', [' ', '"']],
  ] as const) {
    t.same(parsePointer(pointer), tokens, pointer)
  }
  for (const pointer of ['foo', '/~', '/~2', '#/foo', ' /foo']) t.equal(parsePointer(pointer), undefined, pointer)
})

t.test('only the value to which a pointer leads is replaced, in a copy', async (t) => {
  const document = JSON.parse('{"a": [{"b": null}, 1], "__proto__": {"c": 2}, "": 3}')
  const before = JSON.stringify(document)
  const replace = (pointer: string) => JSON.stringify(replaceAt(document, parsePointer(pointer) as string[], () => 'x'))
  t.equal(replace('/a/0/b'), '{"a":[{"b":"x"},1],"__proto__":{"c":2},"":3}')
  t.equal(replace('/__proto__/c'), '{"a":[{"b":null},1],"__proto__":{"c":"x"},"":3}')
  t.equal(replace('/'), '{"a":[{"b":null},1],"__proto__":{"c":2},"":"x"}')
  t.equal(replace(''), '"x"')
  t.equal(JSON.stringify(document), before)
})

t.test('a pointer that finds nothing changes nothing', async (t) => {
  const document = { a: [1], text: 'abc', none: null }
  for (const pointer of ['/b', '/a/1', '/a/-', '/a/00', '/a/length', '/text/0', '/none/x', '/toString', '/a/0/b']) {
    t.same(
      replaceAt(document, parsePointer(pointer) as string[], () => t.fail()),
      document,
      pointer,
    )
  }
})
