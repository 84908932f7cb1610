import t from 'tap'
import { createDatabase, queryOnce } from '../support/database.ts'
import { readPages } from './markdown.ts'
import { playPage } from './session.ts'
import { shopPages } from './shop.ts'

const pages = readPages().filter(({ name }) => name in shopPages)

for (const page of pages) {
  t.test(`the statements of ${page.name} work as shown, as an operator`, (t) =>
    playPage(t, page, { startsPostgres: false, prepare: shopPages[page.name], role: 'accepted_operator' }),
  )
}

t.test('the statements that remove everything leave the tables of the app', async (t) => {
  const url = await createDatabase(t)
  const removal = pages.flatMap(({ blocks }) => blocks).find(({ text }) => text.startsWith('drop schema'))
    ?.text as string
  await queryOnce(url, removal)
  const [{ schemas, todo }] = await queryOnce(
    url,
    `select count(*)::integer as schemas, to_regclass('public.todo')::text as todo from pg_namespace
    where nspname like 'accepted%'`,
  )
  t.same({ schemas, todo }, { schemas: 0, todo: 'todo' })
})
