import { readFile } from 'node:fs/promises'
import t from 'tap'
import { createDatabase, queryOnce } from '../support/database.ts'
import { describeSql, referenceOf, referencePage } from '../support/sql-reference.ts'

t.test('the reference in docs/sql.md is up to date (if this test fails, run `npm run schema`)', async (t) => {
  const url = await createDatabase(t)
  const page = await readFile(referencePage, 'utf8')
  t.equal(referenceOf(page), await describeSql(url))
  await queryOnce(url, `comment on column accepted.job.status is 'Another sentence.'`)
  t.not(referenceOf(page), await describeSql(url), 'a changed comment is noticed')
})
