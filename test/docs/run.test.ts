import t from 'tap'
import { readPages } from './markdown.ts'
import { playPage } from './session.ts'

const played = readPages().filter(({ blocks }) => blocks.some(({ marker }) => marker === 'run'))

t.ok(played.length > 1, 'there are pages with commands')

for (const page of played) {
  t.test(`${page.name} does what it says`, (t) => playPage(t, page, { embedded: page.name === 'README.md' }))
}
