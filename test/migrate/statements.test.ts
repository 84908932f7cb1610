import { readFile } from 'node:fs/promises'
import fc from 'fast-check'
import t from 'tap'
import { placeIn, splitStatements } from '../../src/migrate/statements.ts'

const texts = (text: string) => splitStatements(text).map(({ text }) => text)

t.test('a semicolon in a string, a name, a comment, parentheses or a function body ends no statement', async (t) => {
  for (const statement of [
    "select 'a;b'",
    "select 'it''s; fine'",
    String.raw`select E'a\'; b''; c\\'`,
    String.raw`select 'C:\'`,
    'select "a;b" from "x""y;"',
    'select $$a;b$$, $tag$ $$; $tag$, $1',
    'select a$b$, 1 as c$b$',
    'select /* a; /* b; */ c; */ 1',
    'select 1 -- a;\n + 1',
    'create rule r as on insert to t do also (insert into a values (1); insert into b values (2))',
    'create function f() returns integer begin atomic select case when true then 1 end; select 2; end',
    "do $ü$ begin perform ';'; end $ü$",
    "select U&'d\\0061t;a'",
  ]) {
    t.same(texts(`${statement}; select 2;`), [statement, 'select 2'])
    t.same(texts(`-- before;\n${statement}`), [statement])
  }
})

t.test('blank statements and comments are left out', async (t) => {
  t.same(texts(''), [])
  t.same(texts(' ;; -- nothing;\n /* ; */ ;'), [])
  t.same(texts('\n-- first\n select 1 -- one\n;\n'), ['select 1'])
})

t.test('statements joined with semicolons are split into the same statements', async (t) => {
  const piece = fc.oneof(
    fc.constantFrom(
      'select',
      'a$1',
      '(1)',
      ',',
      '=',
      'e',
      '$1',
      '"x;"',
      "';'",
      "E'\\';'",
      '$$;$$',
      '$a$;$$;$a$',
      '/*;*/',
      '--;\n',
    ),
    fc.stringMatching(/^[a-z_]{1,6}$/).filter((word) => word !== 'atomic'),
  )
  const statement = fc.array(piece, { minLength: 1, maxLength: 12 }).map((pieces) => `x ${pieces.join(' ')} y`)
  fc.assert(
    fc.property(fc.array(statement, { maxLength: 8 }), (statements) => {
      t.strictSame(texts(statements.join(';')), statements)
    }),
  )
})

t.test('each statement of our own migration starts where it says', async (t) => {
  const text = await readFile(new URL('../../migrations/0001_accepted.sql', import.meta.url), 'utf8')
  const statements = splitStatements(text)
  for (const statement of statements) {
    t.equal(text.slice(statement.start, statement.start + statement.text.length), statement.text)
    t.match(statement.text, /^(create|comment|alter|insert|select|update|drop|grant|revoke|do) /)
  }
  t.ok(statements.some(({ text }) => text.startsWith('create function accepted.claim')))
})

t.test('a place is given by line and column, in characters', async (t) => {
  t.same(placeIn('a\nb🍰c', 5), { line: 2, column: 3 })
  t.same(placeIn('select\n🍰, x', 0, 10), { line: 2, column: 4 })
})
