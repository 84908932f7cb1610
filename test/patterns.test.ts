import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import ts from 'typescript-5'
import { parsePrefer } from '../src/http/protocol/prefer.ts'
import { findCredential } from '../src/primitives/credentials.ts'

// Text of clients, handlers and services reaches these patterns. A pattern that takes quadratic time lets a short text
// block the event loop, so the work may only double when the text does.

const root = join(import.meta.dirname, '..')

interface Pattern {
  /** File and line. */
  at: string
  source: string
  flags: string
}

/** Finds the regular expressions in the source, and the JSON schemas' patterns. */
function findPatterns(): { literals: Pattern[]; constructed: string[] } {
  const literals: Pattern[] = []
  const constructed: string[] = []
  for (const file of globSync(['src/**/*.ts', 'worker/**/*.ts'], { cwd: root })) {
    const source = ts.createSourceFile(file, readFileSync(join(root, file), 'utf8'), ts.ScriptTarget.Latest, true)
    const visit = (node: ts.Node): void => {
      const at = `${file}:${source.getLineAndCharacterOfPosition(node.getStart()).line + 1}`
      if (ts.isRegularExpressionLiteral(node)) {
        const [, text = '', flags = ''] = /^\/(.*)\/([a-z]*)$/s.exec(node.text) ?? []
        literals.push({ at, source: text, flags })
      }
      if (ts.isPropertyAssignment(node) && node.name.getText() === 'pattern' && ts.isStringLiteral(node.initializer)) {
        literals.push({ at, source: node.initializer.text, flags: '' })
      }
      if (ts.isNewExpression(node) && node.expression.getText() === 'RegExp') constructed.push(file)
      ts.forEachChild(node, visit)
    }
    visit(source)
  }
  return { literals, constructed }
}

const { literals, constructed } = findPatterns()

/** Applies a pattern as `replace` does: from each position at which no match has ended. A sticky one has one position. */
function apply({ source, flags }: Pattern, text: string): void {
  const pattern = new RegExp(source, flags.includes('y') ? flags : `${flags.replace('g', '')}g`)
  text.replace(pattern, '')
}

/** The lengths of the texts, in characters. At the longer one, quadratic work takes much longer than the noise. */
const shortLength = 5_000
const longLength = 4 * shortLength

/** Time below which a measurement says nothing, in milliseconds. */
const noiseMs = 50

/** A text that repeats a part, with an end that may keep a pattern from matching. */
interface Attack {
  before: string
  repeated: string
  after: string
}

const textOf = ({ before, repeated, after }: Attack, length: number) =>
  before + repeated.repeat(length / repeated.length) + after

/** Returns whether work grows clearly faster than the text. Measures again, because the garbage collector may run. */
function isSuperlinear(work: (text: string) => void, attack: Attack): boolean {
  const measure = (text: string) => {
    // Processor time does not depend on what other processes do.
    const before = process.cpuUsage()
    work(text)
    const { user, system } = process.cpuUsage(before)
    return (user + system) / 1000
  }
  const long = textOf(attack, longLength)
  if (measure(long) < noiseMs) return false
  const short = textOf(attack, shortLength)
  const fastest = (text: string) => Math.min(...Array.from({ length: 3 }, () => measure(text)))
  // Four times the text takes 4 times as long if the work is linear, and 16 times if it is quadratic.
  return fastest(long) > Math.max(noiseMs, 10 * fastest(short))
}

/** Generates attacks from the characters and words of a pattern, because they come closest to a match. */
function attacksOn(source: string): fc.Arbitrary<Attack> {
  const words = source.match(/[A-Za-z]{2,}/g) ?? []
  const part = fc.oneof(fc.constantFrom(...source, ...words), fc.constantFrom(...' \t\n"\'\\-_=:;,@/.aA0[<'))
  const text = (maxLength: number) => fc.array(part, { minLength: 1, maxLength }).map((parts) => parts.join(''))
  return fc.record({ before: text(2), repeated: fc.oneof(part, text(4)), after: text(2) })
}

t.test('the regular expressions of src and worker are found', async (t) => {
  t.ok(literals.some(({ at }) => at.startsWith('worker/errors.ts')))
  t.same([...new Set(constructed)].sort(), ['src/http/protocol/prefer.ts', 'src/primitives/credentials.ts'])
})

const workOf: readonly (readonly [name: string, source: string, work: (text: string) => void])[] = [
  ...literals.map((pattern) => [pattern.at, pattern.source, (text: string) => apply(pattern, text)] as const),
  ['src/http/protocol/prefer.ts', 'respond-async; wait="10"\\,', (text: string) => void parsePrefer(text)],
  [
    'src/primitives/credentials.ts',
    'password pwd- token eyJ AKIA sk_live_ :// @ -----BEGIN PRIVATE KEY----- Bearer cookie \\\\" \'`=:[{<>%3D' +
      ' Key ( name="password" value pi_ _secret_ %2F%2F %40 -u API key <a x=1 )=( ?a&',
    (text) => {
      for (let end = 0; ; ) {
        const found = findCredential(text, end)
        if (!found) return
        end = found.end
      }
    },
  ],
]

for (const [name, source, work] of workOf) {
  t.test(`a text that is twice as long takes ${name} at most about twice as long`, async (t) => {
    const property = fc.property(attacksOn(source), (attack) => !isSuperlinear(work, attack))
    fc.assert(property, { numRuns: 60, endOnFailure: true })
    t.pass()
  })
}

t.test('the texts that once took seconds to redact take linear time', async (t) => {
  const work = workOf.at(-1)?.[2] as (text: string) => void
  for (const repeated of [
    'pwd-',
    'password',
    '"token":"',
    'a://',
    'password=\\"',
    'token ',
    'eyJ-',
    '-----BEGIN PRIVATE',
    'Key (token',
    'Key (a)=(',
    'name="password" ',
    'name="password"\\"',
    '-u (',
    "-u 'a\\'",
    'token "a ',
    'pi_a_secret_',
    'pi_',
    '<a ',
    '<a b="',
    '%3A%2F%2F',
    '%22token%22',
    'API key ',
    '12345678:',
  ]) {
    t.notOk(isSuperlinear(work, { before: '', repeated, after: '' }), repeated)
  }
})
