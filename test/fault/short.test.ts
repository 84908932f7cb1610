import { join } from 'node:path'
import t from 'tap'
import { controls, makeCut } from './controls.ts'
import { openMatrix } from './matrix.ts'
import { formatControlResult, formatResult, hasPassed, isExposed } from './report.ts'
import { rows } from './rows/index.ts'

/** These rows take about a minute. `npm run test:fault` runs the whole matrix. */
const selectedRows = ['process-kills', 'postgres-crash', 'reset-after-commit']
const selectedControls = ['without-dedup']

t.test('the sources have the guards that the controls remove', async (t) => {
  const root = join(import.meta.dirname, '../..')
  for (const { name, cuts } of controls) {
    for (const cut of cuts) t.ok(await makeCut(root, cut), name)
  }
})

const matrix = await openMatrix(true)
t.teardown(() => matrix.close({ keepLogs: !t.passing() }))

for (const row of rows.filter(({ name }) => selectedRows.includes(name))) {
  t.test(row.summary, async (t) => {
    const result = await matrix.run(row)
    t.comment(formatResult(result))
    t.ok(result.acknowledged > 0, 'at least one intent was acknowledged')
    t.ok(result.faultCount > 0, 'at least one fault happened')
    t.same(result.findings, [])
    t.ok(hasPassed(result))
  })
}

for (const control of controls.filter(({ name }) => selectedControls.includes(name))) {
  t.test(`the checker finds the violation when ${control.summary}`, async (t) => {
    const result = await matrix.runControl(control)
    t.comment(formatControlResult(control, result))
    t.ok(isExposed(control, result))
  })
}
