import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { findDeadLinks } from '../../docs/.vitepress/dead-links.ts'
import { resolveLink, rewriteLinks } from '../../docs/.vitepress/links.ts'
import { describeReference } from '../../docs/.vitepress/reference.ts'

t.test('a link leads to a page of the site, or to a source', async (t) => {
  const isPage = (path: string) => ['docs/sql.md', 'bench/README.md', 'SECURITY.md'].includes(path)
  const resolve = (target: string) => resolveLink('docs/batches.md', target, isPage)
  t.same(resolve('sql.md'), { url: '/sql' })
  t.same(resolve('../SECURITY.md'), { url: '/security' })
  t.same(resolve('../bench/README.md'), { url: '/bench' })
  t.same(resolve('../README.md'), { url: '/' })
  t.same(resolve('../src/jobs/'), { source: 'src/jobs' })
  t.same(resolve('../examples/todos/README.md'), { source: 'examples/todos/README.md' })
})

t.test('links are rewritten, but not those in code, to other sites and within the page', async (t) => {
  const rewritten = rewriteLinks(
    '[a](b.md#c) `[a](b.md)` [d](https://d.example) [e](#f)\n\n```md\n[a](b.md)\n```\n![g](h.png)\n',
    (target, anchor) => `<${target}${anchor}>`,
  )
  t.equal(
    rewritten,
    '[a](<b.md#c>) `[a](b.md)` [d](https://d.example) [e](#f)\n\n```md\n[a](b.md)\n```\n![g](<h.png>)\n',
  )
})

t.test('links to a missing page, file or heading are found', async (t) => {
  const directory = t.testdir({ 'a.html': '', 'b.html': '<h2 id="here">Here</h2>', 'c.txt': '' })
  await mkdir(join(directory, 'd'))
  await writeFile(join(directory, 'd/index.html'), '')
  const link = (href: string) => `<a class="x" href="${href}">x</a>`
  const good = ['/b', '/b#here', 'b.html#here', '/c.txt', '/d/', '#', 'https://other.example/e']
  const bad = ['/e', '/b#there', '#nowhere', '/f.txt']
  await writeFile(join(directory, 'a.html'), [...good, ...bad].map(link).join('\n'))
  t.same(
    findDeadLinks(directory),
    bad.map((href) => `/a.html -> ${href}`),
  )
})

t.test('the API reference has the exports of each entry point, their signatures, comments and members', async (t) => {
  const pages = new Map(describeReference().map(({ url, text }) => [url, text]))
  for (const page of ['accepted', 'worker', 'perform', 'client', 'testing', 'http', 'adapters'])
    t.match(pages.get(`/reference/${page}`), /^# accepted/, page)
  const main = pages.get('/reference/accepted') as string
  t.match(main, /^## defineOperation$/m)
  t.match(main, '```ts\nexport function defineOperation<')
  t.match(main, 'Throws TypeError that names the invalid option.')
  t.match(main, /^\| `principal\?` \| The owner of the job/m)
  t.match(main, '(/reference/accepted#operation)')
  t.notMatch(main, /^(export )?undefined/m)
  t.match(pages.get('/reference/index'), '[`defineHandlers`](/reference/worker#definehandlers)')
})
