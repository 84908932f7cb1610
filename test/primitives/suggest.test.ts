import t from 'tap'
import { suggest } from '../../src/primitives/suggest.ts'

t.test('a misspelt name leads to the name that was meant', async (t) => {
  const names = ['operations', 'handlers', 'routes', 'timeoutSeconds', 'maxBacklog']
  for (const [given, meant] of [
    ['handler', 'handlers'],
    ['Handlers', 'handlers'],
    ['hadnlers', 'handlers'],
    ['timeout', 'timeoutSeconds'],
    ['maxBackLog', 'maxBacklog'],
    ['route', 'routes'],
    ['database', undefined],
    ['x', undefined],
    ['', undefined],
    ['h'.repeat(10_000), undefined],
  ] as const) {
    t.equal(suggest(given, names), meant, given.slice(0, 20))
  }
})
