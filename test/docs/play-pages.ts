import t from 'tap'
import { readPages } from './markdown.ts'
import { playPage } from './session.ts'
import { shopPages } from './shop.ts'

/** Runs the commands of pages that need no tables of a shop, one test per page. */
export function playPages(isSelected: (name: string) => boolean): void {
  const played = readPages().filter(
    ({ name, blocks }) => isSelected(name) && !(name in shopPages) && blocks.some(({ marker }) => marker === 'run'),
  )
  t.ok(played.length > 1, 'several pages have commands')
  for (const page of played) {
    // Pages outside of docs use `npm start`, which starts a Postgres.
    t.test(`the commands of ${page.name} work as shown`, (t) =>
      playPage(t, page, { startsPostgres: !page.name.startsWith('docs/') }),
    )
  }
}
