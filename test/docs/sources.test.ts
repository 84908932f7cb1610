import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { root } from './markdown.ts'

const requirementCount = 25

t.test('each requirement of the sources names files of the code and tests that exist', async (t) => {
  const page = readFileSync(join(root, 'docs/sources.md'), 'utf8')
  const rows = [...page.matchAll(/^\| (\d+) \| S[1-5] \| (.*) \|$/gm)].map(([, number, cells = '']) => {
    const [, , code = '', tests = ''] = cells.split(' | ')
    const filesOf = (cell: string) => [...cell.matchAll(/\]\(\.\.\/([^)]+)\)/g)].map(([, file]) => file as string)
    return { number: Number(number), code: filesOf(code), tests: filesOf(tests) }
  })
  t.same(
    rows.map(({ number }) => number),
    Array.from({ length: requirementCount }, (_, index) => index + 1),
  )
  for (const { number, code, tests } of rows) {
    t.ok(code.length > 0 && tests.length > 0, `row ${number} has code and tests`)
    for (const file of [...code, ...tests]) t.ok(existsSync(join(root, file)), file)
    t.same(
      tests.filter((file) => !file.startsWith('test/')),
      [],
      `the tests of row ${number} are tests`,
    )
  }
})
