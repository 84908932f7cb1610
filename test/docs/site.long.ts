import { execFile } from 'node:child_process'
import { existsSync, globSync, readFileSync, statSync } from 'node:fs'
import { createServer } from 'node:http'
import { extname, join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { startBrowser } from '../clients/browser.ts'
import { root } from './markdown.ts'

const site = join(root, 'docs/.vitepress/dist')
const types: Readonly<Record<string, string>> = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' }

t.test('the site is built without a dead link, and works in a browser', async (t) => {
  await promisify(execFile)('npm', ['run', 'docs'], { cwd: root })
  const pages = globSync('*.html', { cwd: site })
  t.ok(pages.length > 40)
  for (const page of pages) t.notMatch(readFileSync(join(site, page), 'utf8'), /<(li|p|td)>undefined/, page)
  const server = createServer(({ url = '/' }, response) => {
    const path = decodeURIComponent(new URL(url, 'http://localhost').pathname)
    const file = [path, `${path}.html`, `${path}/index.html`]
      .map((name) => join(site, name))
      .find((name) => existsSync(name) && statSync(name).isFile())
    if (!file) return response.writeHead(404).end()
    return response.writeHead(200, { 'content-type': types[extname(file)] ?? 'image/png' }).end(readFileSync(file))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const origin = `http://127.0.0.1:${(server.address() as { port: number }).port}`
  const open = await startBrowser(t)

  const { page, problems } = await open(t, { width: 360, colorScheme: 'dark' })
  for (const path of ['/', '/getting-started', '/operations', '/sql', '/reference/accepted', '/source/src/accept']) {
    await page.goto(origin + path)
    await page.getByRole('heading').first().waitFor()
    t.equal(await page.evaluate('document.documentElement.scrollWidth'), 360, `${path} fits a small screen`)
  }
  await page.setViewportSize({ width: 1280, height: 800 })
  await page.goto(`${origin}/architecture`)
  await page.getByRole('link', { name: 'accept.ts' }).first().click()
  await page.getByRole('heading', { name: 'src/accept/accept.ts' }).waitFor()
  await page.goto(`${origin}/concepts`)
  await page.getByRole('button', { name: 'Search' }).click()
  await page.getByRole('searchbox').fill('worker-crashed')
  await page.getByRole('option').first().click()
  await page.getByText('worker-crashed').first().waitFor()
  t.same(problems, [])
})
