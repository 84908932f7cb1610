import t from 'tap'
import { controls, isExposed, printControl } from './controls.ts'
import { openMatrix } from './matrix.ts'
import { rows } from './rows/index.ts'
import { holds, print } from './stage.ts'

/** About a minute of the matrix; `npm run test:fault` is the whole of it. */
const chosen = ['kills', 'worker-dies-after-commit', 'postgres-crash', 'reset-after-commit', 'careless-handler']
const guardsCut = ['no-dedup']

const matrix = await openMatrix(true)
t.teardown(() => matrix.close(t.passing()))

for (const row of rows.filter(({ name }) => chosen.includes(name))) {
  t.test(row.summary, async (t) => {
    const figures = await matrix.play(row)
    t.comment(print(figures))
    t.ok(figures.acknowledged > 0, 'something was accepted')
    t.ok(figures.faults > 0, 'something went wrong on the way')
    t.same(figures.findings, [])
    t.ok(holds(figures))
  })
}

for (const control of controls.filter(({ name }) => guardsCut.includes(name))) {
  t.test(`the checker sees it when ${control.summary}`, async (t) => {
    const figures = await matrix.playWithout(control)
    t.comment(printControl(control, figures))
    t.ok(isExposed(control, figures))
  })
}
