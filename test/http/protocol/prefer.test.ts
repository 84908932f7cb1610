import t from 'tap'
import { parsePrefer, preferenceApplied } from '../../../src/http/protocol/prefer.ts'

t.test('the Prefer header is parsed as RFC 7240 specifies', async (t) => {
  for (const [header, expected] of [
    [undefined, {}],
    ['', {}],
    ['wait=10', { wait: 10 }],
    ['wait="10"', { wait: 10 }],
    ['Wait = 10', { wait: 10 }],
    ['wait=0', { wait: 0 }],
    ['wait=600', { wait: 55 }],
    ['wait=99999999999999999999', { wait: 55 }],
    ['wait=-1', {}],
    ['wait=1.5', {}],
    ['wait=ten', {}],
    ['wait', {}],
    ['return=minimal', { return: 'minimal' }],
    ['return="representation"', { return: 'representation' }],
    ['return=nothing', {}],
    ['respond-async', { respondAsync: true }],
    ['respond-async, wait=10', { respondAsync: true, wait: 10 }],
    ['handling=lenient; strict=no, wait=5; foo="a, b", return=minimal', { wait: 5, return: 'minimal' }],
    ['note="wait=1, wait=2", wait=3', { wait: 3 }],
    ['return=minimal, return=representation', { return: 'minimal' }],
    [['wait=3', 'return=minimal'], { wait: 3, return: 'minimal' }],
    ['=, ;, "unterminated, wait=4', {}],
    ['wait=4, =', { wait: 4 }],
  ] as const) {
    t.same(parsePrefer(header as string | string[] | undefined), expected, String(header))
  }
})

t.test('the parser finds no preferences in hostile headers, and does not hang', async (t) => {
  const hostileHeaders = [
    '"'.repeat(15_000),
    '"a\\'.repeat(5_000),
    ',"'.repeat(7_000),
    'a=;'.repeat(5_000),
    ' '.repeat(16_000),
  ]
  for (const header of hostileHeaders) t.same(parsePrefer(header), {})
})

t.test('Preference-Applied lists the preferences that were applied', async (t) => {
  t.same(preferenceApplied({}), {})
  t.same(preferenceApplied({ wait: 55, return: 'minimal', respondAsync: true }), {
    'preference-applied': 'respond-async, wait=55, return=minimal',
  })
})
