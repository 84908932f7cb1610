import t from 'tap'
import { formatBar } from '../../src/cli/progress-bar.ts'
import { formatDuration, formatRelative } from '../../src/cli/relative-time.ts'
import { type Column, formatFields, formatTable } from '../../src/cli/table.ts'

interface Row {
  id: string
  at: Date | null
  principal?: string
  text?: string | null
}

const columns: readonly Column<Row>[] = [
  { heading: 'ID', cell: ({ id }) => id },
  { heading: 'AT', cell: ({ at }) => at },
  { heading: 'PRINCIPAL', cell: ({ principal }) => principal, whenNarrow: 'omit' },
  { heading: 'TEXT', cell: ({ text }) => text, whenNarrow: 'cut' },
]
const now = new Date('2027-02-14T12:00:00Z')
const at = new Date('2027-02-14T11:55:00Z')
const on = (width: number) => ({ columns: width, now })

t.test('in a pipe, columns are aligned, values are complete, and times are in ISO 8601', async (t) => {
  const text = 'x'.repeat(300)
  t.same(
    formatTable(columns, [
      { id: 'a', at, principal: 'ann', text },
      { id: 'bcd', at: null, text: null },
    ]),
    ['ID   AT                        PRINCIPAL  TEXT', `a    2027-02-14T11:55:00.000Z  ann        ${text}`, 'bcd'],
  )
})

t.test('on a terminal, times are relative, and the lines fit', async (t) => {
  const row = { id: 'a', at, principal: 'ann', text: 'one two three four five six seven' }
  t.same(formatTable(columns, [row], on(80)), [
    'ID  AT      PRINCIPAL  TEXT',
    'a   5m ago  ann        one two three four five six seven',
  ])
  t.same(formatTable(columns, [row], on(40)), [
    'ID  AT      PRINCIPAL  TEXT',
    'a   5m ago  ann        one two three fo…',
  ])
  t.same(formatTable(columns, [row], on(30)), ['ID  AT      TEXT', 'a   5m ago  one two three fou…'])
  t.same(formatTable(columns, [row], on(12)), ['ID  AT', 'a   5m ago'], 'a column that would be too narrow is left out')
})

t.test('a column with room keeps it as long as others can be left out', async (t) => {
  const roomy = columns.map((column) => (column.heading === 'TEXT' ? { ...column, room: 20 } : column))
  const row = { id: 'a', at, principal: 'ann', text: 'one two three four five six seven' }
  t.same(formatTable(roomy, [row], on(43)), [
    'ID  AT      PRINCIPAL  TEXT',
    'a   5m ago  ann        one two three four …',
  ])
  t.same(formatTable(roomy, [row], on(40)), ['ID  AT      TEXT', 'a   5m ago  one two three four five six…'])
  t.same(formatTable(roomy, [row], on(25)), ['ID  AT      TEXT', 'a   5m ago  one two thre…'])
  t.same(formatTable(roomy, [{ ...row, text: 'short' }], on(40)), [
    'ID  AT      PRINCIPAL  TEXT',
    'a   5m ago  ann        short',
  ])
})

t.test('wide characters take two columns, and are not cut in the middle', async (t) => {
  const rows = ['日本語のテキスト', 'e\u0301cole', '👩‍👩‍👧 family'].map((text) => ({ id: text, at: null, text }))
  const lines = formatTable(columns, rows, on(200))
  t.equal(lines[1]?.indexOf('日本語', 3), 8 + 2 + 2 + 2 + 9 + 2)
  t.equal(lines[2], `e\u0301cole${' '.repeat(11)}  ${' '.repeat(2)}  ${' '.repeat(9)}  e\u0301cole`)
  t.same(
    formatTable([{ heading: 'T', cell: (text: string) => text, whenNarrow: 'cut' }], ['日本語のテキスト'], on(12)),
    ['T', '日本語のテ…'],
  )
})

t.test('no text can control the terminal or begin a line', async (t) => {
  const text = '\u001b[2Jgone\u0007\nnext\u009b31m\u202e'
  for (const lines of [
    formatTable(columns, [{ id: text, at: null, text }], on(200)),
    formatFields([['ID', text]], on(200)),
  ]) {
    t.notMatch(lines.join(''), /[\p{Cc}\u202e]/u)
    t.ok(lines.at(-1)?.includes('gone'))
  }
})

t.test('a field without a value is left out', async (t) => {
  const fields = [
    ['ID', 'a'],
    ['Created', at],
    ['Error', null],
    ['Worker', ''],
    ['Priority', 0],
  ] as const
  t.same(formatFields(fields, on(80)), ['ID        a', 'Created   2027-02-14T11:55:00.000Z (5m ago)', 'Priority  0'])
  t.match(formatFields(fields), ['ID        a', 'Created   2027-02-14T11:55:00.000Z'])
})

t.test('durations have one unit', async (t) => {
  t.same([0, 59, 119, 120, 5_400, 7_200, 172_799, 172_800].map(formatDuration), [
    '0s',
    '59s',
    '119s',
    '2m',
    '90m',
    '2h',
    '47h',
    '2d',
  ])
  t.equal(formatRelative(new Date(now.getTime() + 3 * 3_600_000), now), 'in 3h')
  t.equal(formatRelative(new Date(now.getTime() + 400), now), 'now')
})

t.test('a progress bar fits the terminal, or is left out', async (t) => {
  t.equal(formatBar(50, 'running', 80), `[${'#'.repeat(20)}${'-'.repeat(20)}] running`)
  t.equal(formatBar(100, 'ok', 20), `[${'#'.repeat(14)}] ok`)
  t.equal(formatBar(50, 'a long text', 20), '[##---] a long text')
  t.equal(formatBar(50, 'a long text', 19), 'a long text')
})
