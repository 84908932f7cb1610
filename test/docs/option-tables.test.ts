import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { sqlstate } from '../../src/db/sqlstate.ts'
import { jobErrors } from '../../src/jobs/job-errors.ts'
import { fillTables } from '../support/option-tables.ts'
import { root } from './markdown.ts'

t.test('the tables of options and codes are up to date (if this test fails, run `npm run docs:tables`)', async (t) => {
  const pages = fillTables()
  t.ok(pages.length > 1)
  for (const { file, text, filled } of pages) t.equal(text, filled, file)
  const operations = pages.find(({ file }) => file.endsWith('/operations.md'))?.filled
  t.match(operations, '| `timeoutSeconds` | 60 | Time limit in seconds')
  t.match(operations, '| `name` | required | ')
})

const troubleshooting = readFileSync(join(root, 'docs/troubleshooting.md'), 'utf8')

/** Returns the cells of each row of a section of troubleshooting.md. */
const rowsOf = (heading: string): string[][] => {
  const [, section = ''] = troubleshooting.split(`\n## ${heading}\n`)
  const rows = [...(section.split('\n## ')[0] ?? '').matchAll(/^\| (.+) \|$/gm)].map(([, row = '']) => row.split(' | '))
  return rows.slice(1)
}

t.test('troubleshooting.md has the cause and the way out of every error code of jobs, and of no others', async (t) => {
  const rows = rowsOf('Error codes of jobs')
  const thrown = globSync('worker/**/*.ts', { cwd: root }).flatMap((file) => [
    ...readFileSync(join(root, file), 'utf8').matchAll(/(?:new JobFailed\(|JobErrorColumn = \{\s*code: )'([a-z-]+)'/g),
  ])
  const codes = new Set(['handler-error', ...Object.keys(jobErrors), ...thrown.map(([, code]) => code)])
  t.ok(codes.has('endpoint-gone') && codes.has('unknown-job'), 'codes are found in the sources')
  t.same(rows.map(([code]) => code?.replaceAll('`', '')).sort(), [...codes].sort())
  for (const [code = '', cause, wayOut] of rows) t.ok(cause && wayOut, code)
})

t.test(
  'troubleshooting.md has the cause and the way out of every SQLSTATE of our schema, and of no others',
  async (t) => {
    const sql = readFileSync(join(root, 'migrations/0001_accepted.sql'), 'utf8')
    const conditions = new Set([...sql.matchAll(/errcode = '(\w+)'/g)].map(([, condition]) => condition))
    const rows = rowsOf('SQLSTATEs')
    t.same(rows.map(([code]) => code?.match(/`(\w+)`/)?.[1]).sort(), [...conditions].sort())
    for (const [code = '', cause, wayOut] of rows) {
      t.ok(cause && wayOut, code)
      const [state = '', condition = ''] = code.replaceAll('`', '').split(' ')
      t.equal(Object.entries(sqlstate).find(([name]) => snakeCase(name) === condition)?.[1] ?? state, state)
    }
  },
)

const snakeCase = (name: string) => name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
