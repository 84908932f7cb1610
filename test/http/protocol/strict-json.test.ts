import fc from 'fast-check'
import t from 'tap'
import { findJsonViolations } from '../../../src/http/protocol/strict-json.ts'

const pointersOf = (text: string) => findJsonViolations(text).map(({ pointer }) => pointer)

t.test('a member that appears twice is found at any depth, also if its name is escaped', async (t) => {
  for (const [text, pointers] of [
    ['{"a":1,"a":1}', ['/a']],
    ['{"a":1,"b":{"c":[{"d":1,"d":2}]},"b":0}', ['/b/c/0/d', '/b']],
    ['{"a":1,"\\u0061":2}', ['/a']],
    ['{"":1,"":2}', ['/']],
    ['{"a/b":1,"m~n":{"x":1,"x":2},"a/b":2}', ['/m~0n/x', '/a~1b']],
    ['[[],[{}],[[{"a":[],"a":[]}]]]', ['/2/0/0/a']],
    ['{"a\\\\":1,"a\\\\":2}', ['/a\\']],
    ['{"a\\"":1,"a\\"":2}', ['/a"']],
    ['{"toString":1,"toString":2}', ['/toString']],
    ['\n{ "a" : 1 ,\r\n\t"a" : 2 }', ['/a']],
  ] as const) {
    t.same(pointersOf(text), pointers, text)
  }
})

t.test('the same name in different objects, and as a value, is no duplicate', async (t) => {
  for (const text of [
    '{"a":{"a":{"a":"a"}},"b":["a","a",{"a":1},{"a":1}]}',
    '[{"a":1},{"a":1}]',
    '{"a":"\\"a\\":1,\\"a\\":2","b":"{\\"b\\":1}"}',
    '{"a":[1,2],"b":{},"c":[],"d":"x"}',
    '"a"',
    ' null ',
  ]) {
    t.same(pointersOf(text), [], text)
  }
})

for (const literal of [
  ...['9007199254740993', '-9007199254740993', '9007199254740993.0', '900719925474099300e-2', '0.1e-400', '1e-400'],
  ...['1e400', '-1e400', '1e99999999999', '123456789012345678901234567890', '0.30000000000000000001', '4.9e-324'],
  ...['0.1000000000000000055511151231257827', '1.00000000000000000000000001', '1'.repeat(10_000)],
]) {
  t.test(`the number ${literal.slice(0, 40)} changes its value as a double, and is refused`, async (t) => {
    t.same(pointersOf(`{"a":[0,${literal}]}`), ['/a/1'])
    t.same(pointersOf(literal), [''])
  })
}

for (const literal of [
  ...[
    '0',
    '-0',
    '0.0',
    '0e400',
    '-0.000e-9999',
    '0.1',
    '1.0',
    '1e2',
    '1E+2',
    '1.50',
    '0.1e1',
    '100000000000000000000000',
  ],
  ...['9007199254740992', '9007199254740994', '1e21', '123456789012345680000', '5e-324', '1.7976931348623157e308'],
  ...['1e-7', '0.0000001', '3.141592653589793', '1000000000000000000000000000000e-30', `1${'0'.repeat(300)}`],
  ...[`0.${'0'.repeat(300)}1`, `1${'0'.repeat(100_000)}e-100000`],
]) {
  t.test(`the number ${literal.slice(0, 40)} keeps its value as a double, and is accepted`, async (t) => {
    t.same(pointersOf(`{"a":${literal}}`), [])
  })
}

t.test('a number is written as it would be stored, so that the sender sees the difference', async (t) => {
  t.match(findJsonViolations('{"id":9007199254740993}'), [
    { pointer: '/id', keyword: 'exact', message: /9007199254740992.*send it as a string/ },
  ])
})

t.test('what Postgres cannot store is found in values and in names', async (t) => {
  for (const [text, pointers] of [
    ['{"a":"\\u0000"}', ['/a']],
    ['["x","\\ud800"]', ['/1']],
    ['{"a":{"\\ud800":1}}', ['/a']],
    ['{"a":"\\ud83d\\ude00","b":"\\\\u0000","c":"\\\\"}', []],
  ] as const) {
    t.same(pointersOf(text), pointers, text)
  }
})

t.test('a member that can change a prototype is found at any depth', async (t) => {
  t.same(pointersOf('{"a":[{"__proto__":{}}]}'), ['/a/0/__proto__'])
  t.same(pointersOf('{"\\u005f_proto__":null}'), ['/__proto__'])
  t.same(pointersOf('{"constructor":{"prototype":{}}}'), ['/constructor/prototype'])
  t.same(pointersOf('{"constructor":"Ford","prototype":"T"}'), [])
})

t.test('at most 100 violations are reported, and long names do not make the report longer than the text', async (t) => {
  t.equal(findJsonViolations(`[${Array(1_000).fill('1e400').join()}]`).length, 100)
  const text = `{"${'x'.repeat(500_000)}":[${Array(1_000).fill('1e400').join()}]}`
  t.ok(pointersOf(text).join('').length < 2 * text.length)
})

t.test('a text that is nested deeper than 100 levels is refused, and not searched any further', async (t) => {
  t.same(pointersOf(`${'['.repeat(100)}${']'.repeat(100)}`), [])
  t.same(pointersOf(`${'['.repeat(101)}${']'.repeat(101)}`), ['/0'.repeat(100)])
  t.equal(findJsonViolations('['.repeat(500_000) + ']'.repeat(500_000)).length, 1)
})

// Without duplicates, what JSON.stringify writes is always accepted. This also covers every syntax that it can write.
t.test('every text that JSON.stringify has written is accepted', async (t) => {
  const isPlain = (text: string) => !/__proto__|"prototype"/.test(text)
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 6, stringUnit: 'binary' }), fc.nat(3), (value, space) => {
        const text = JSON.stringify(value, undefined, space)
        fc.pre(isPlain(text) && !text.includes('\\u0000') && !text.includes('\\ud'))
        return findJsonViolations(text).length === 0
      }),
    ),
  )
})

/** Writes a value as JSON, and chooses for each member whether to write it twice. Counts the duplicates. */
function writeWithDuplicates(value: unknown, choose: () => boolean): { text: string; duplicates: number } {
  if (typeof value !== 'object' || value === null) return { text: JSON.stringify(value), duplicates: 0 }
  const isArray = Array.isArray(value)
  let duplicates = 0
  const parts = Object.entries(value).flatMap(([name, member]) => {
    const times = !isArray && choose() ? 2 : 1
    duplicates += times - 1
    return Array.from({ length: times }, () => {
      const written = writeWithDuplicates(member, () => false)
      return isArray ? written.text : `${JSON.stringify(name)}:${written.text}`
    })
  })
  return { text: isArray ? `[${parts}]` : `{${parts}}`, duplicates }
}

t.test('exactly the members that are written twice are reported', async (t) => {
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.infiniteStream(fc.boolean()), (value, choices) => {
        const { text, duplicates } = writeWithDuplicates(value, () => choices.next().value)
        fc.pre(!/__proto__|"prototype"|\\u0000/.test(text) && duplicates <= 100)
        const found = findJsonViolations(text).filter(({ keyword }) => keyword === 'unique')
        return found.length === duplicates
      }),
    ),
  )
})

t.test('a number is accepted if and only if it has the value of the text that JSON.stringify writes', async (t) => {
  const digits = fc.stringMatching(/^[0-9]{1,25}$/)
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(digits, fc.integer({ min: -330, max: 310 }), (text, exponent) => {
        const literal = `${BigInt(text)}e${exponent}`
        const stored = JSON.stringify(JSON.parse(literal))
        const isExact = stored !== 'null' && isSameDecimal(literal, stored)
        return (findJsonViolations(literal).length === 0) === isExact
      }),
      { numRuns: 2_000 },
    ),
  )
})

/** Compares two decimal numbers exactly, as integers of a common power of ten. */
function isSameDecimal(one: string, other: string): boolean {
  const scale = 1_000
  const toInteger = (literal: string) => {
    const [mantissa = '', exponent = '0'] = literal.split('e')
    const [whole = '', fraction = ''] = mantissa.split('.')
    const power = scale + Number(exponent) - fraction.length
    return BigInt(whole + fraction) * 10n ** BigInt(power)
  }
  return toInteger(one) === toInteger(other)
}

t.test('a text with too many objects, arrays and members is found, also if no level has many', async (t) => {
  const many = (count: number, part: (index: number) => string) =>
    Array.from({ length: count }, (_, n) => part(n)).join()
  for (const [text, parts] of [
    [`{${many(99_999, (n) => `"${n}":1`)}}`, 100_000],
    [`[${many(99_999, () => '{}')}]`, 100_000],
    [`[${many(49_999, () => '{"a":[]}')},[]]`, 149_999],
  ] as const) {
    const isAllowed = parts <= 100_000
    t.equal(findJsonViolations(text).length, isAllowed ? 0 : 1)
    const more = text.replace(/[\]}]$/, (end) => (end === '}' ? ',"x":[]}' : ',{}]'))
    t.match(findJsonViolations(more), [{ keyword: 'storable', message: /100000 objects, arrays and members/ }])
    t.same(findJsonViolations(more, 0, 2_000_000), [], 'a higher body limit allows more')
  }
  t.same(findJsonViolations(`[${many(500_000, () => '1')}]`), [], 'numbers cost little')
})
