import t from 'tap'
import { type Page, readPages } from './markdown.ts'
import { playPage } from './session.ts'
import { shopPages } from './shop.ts'

/** This page starts in an empty directory, and installs the package: release/ plays it. */
const installs = 'docs/getting-started.md'

const pages = readPages().filter(
  ({ name, blocks }) => name !== installs && !(name in shopPages) && blocks.some(({ marker }) => marker === 'run'),
)

/** Runs the commands of the pages in docs, one test per page. */
export function playDocs(): void {
  const played = pages.filter(({ name }) => name.startsWith('docs/'))
  t.ok(played.length > 1, 'several pages have commands')
  for (const page of played) {
    t.test(`the commands of ${page.name} work as shown`, (t) => playPage(t, page, { startsPostgres: false }))
  }
}

/** Runs the commands of the other pages, one after the other. They use the Postgres and the servers of `npm start`. */
export function playOthers(): void {
  const played = pages.filter(({ name }) => !name.startsWith('docs/'))
  t.ok(played.length > 1, 'several pages have commands')
  const all: Page = {
    name: played.map(({ name }) => name).join(' and '),
    text: '',
    blocks: played.flatMap(({ blocks }) => blocks),
  }
  t.test(`the commands of ${all.name} work as shown`, (t) => playPage(t, all, { startsPostgres: true }))
}
