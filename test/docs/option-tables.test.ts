import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
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

t.test('troubleshooting.md has the cause and the way out of every error code of jobs, and of no others', async (t) => {
  const page = readFileSync(join(root, 'docs/troubleshooting.md'), 'utf8')
  const section = page.slice(page.indexOf('## Error codes of jobs'), page.indexOf('## Jobs that wait'))
  const rows = [...section.matchAll(/^\| `([a-z-]+)` \| ([^|]+) \| ([^|]+) \|$/gm)]
  t.same(rows.map(([, code]) => code).sort(), ['handler-error', ...Object.keys(jobErrors)].sort())
})
