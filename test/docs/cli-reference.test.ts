import { readFile } from 'node:fs/promises'
import t from 'tap'
import { cliPage, describeCommands, referenceOf } from '../support/cli-reference.ts'

t.test('the reference in docs/cli.md is up to date (if this test fails, run `npm run docs:cli`)', async (t) => {
  t.equal(referenceOf(await readFile(cliPage, 'utf8')), describeCommands())
  t.match(describeCommands(), /### accepted jobs list\n\n```text\nUsage: accepted jobs list \[options\]\n/)
})
