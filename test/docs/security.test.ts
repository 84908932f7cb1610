import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { root } from './markdown.ts'

const page = readFileSync(join(root, 'SECURITY.md'), 'utf8')
const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

/** The rows of the table that says what is defended. */
const rows = page
  .slice(page.indexOf('## What is defended'), page.indexOf('## What is not defended'))
  .split('\n')
  .filter((line) => line.startsWith('| ') && !line.startsWith('| Threat '))
  .map((line) => line.slice(2, -2).split(' | ') as [threat: string, defense: string, where: string, testedBy: string])

const filesIn = (cell: string) => [...cell.matchAll(/\]\(([^)]+)\)/g)].map(([, file]) => file as string)

t.test('each defense names the files where it is, and a test that exists and is run', async (t) => {
  t.ok(rows.length > 20)
  for (const [threat, , where, testedBy] of rows) {
    const tests = filesIn(testedBy)
    t.ok(filesIn(where).length > 0, `${threat}: where`)
    t.ok(tests.length > 0, `${threat}: tested by`)
    for (const file of [...filesIn(where), ...tests]) t.ok(existsSync(join(root, file)), `${threat}: ${file}`)
    for (const file of tests.filter((name) => !name.endsWith('.test.ts'))) {
      const script = testedBy.slice(0, testedBy.indexOf(file)).match(/`npm run ([\w:]+)`[^`]*$/)?.[1] ?? ''
      t.ok(scripts[script], `${threat}: a script runs ${file}`)
    }
  }
})
