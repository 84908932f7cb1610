/** Assembles the pages of the site from the Markdown files, the sources that they link to, and the types. */
import { execFileSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { resolveLink, rewriteLinks, urlOfPage, urlOfSource } from './links.ts'
import { describeReference } from './reference.ts'
import { sections } from './sidebar.ts'

export const root = join(import.meta.dirname, '../..')

/** Where VitePress reads the pages. */
export const stage = join(import.meta.dirname, 'pages')

const pages = sections.flatMap((section) => section.pages)
const isPage = (path: string) => pages.includes(path)
const read = (path: string) => readFileSync(join(root, path), 'utf8')
const tracked = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
  cwd: root,
  encoding: 'utf8',
})
  .split('\n')
  .filter(Boolean)

/** Writes all pages. Sources and directories that a page links to become pages too, but not those that they link to. */
export function stagePages(): void {
  rmSync(stage, { recursive: true, force: true })
  const sources = new Set(tracked.filter((path) => path.startsWith('examples/')))
  for (const path of pages) writePage(urlOfPage(path), convert(path, sources))
  writePage('/index', convert('docs/.vitepress/home.md', sources))
  for (const { url, text } of describeReference()) writePage(url, text)
  const directories = [...sources].filter((path) => statSync(join(root, path)).isDirectory())
  for (const path of [...directories, 'examples']) {
    for (const file of tracked.filter((file) => dirname(file) === path)) sources.add(file)
  }
  for (const path of sources) writeSource(path, sources)
}

function writePage(url: string, text: string): void {
  const file = join(stage, `${url}.md`)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, text)
}

/** Converts a Markdown file of the checkout to a page. Adds the sources that it links to. */
function convert(path: string, sources: Set<string>): string {
  const text = rewriteLinks(read(path), (target, anchor) => {
    if (/\.(png|svg)$/.test(target)) return copyImage(join(dirname(path), target))
    const resolved = resolveLink(path, target, isPage)
    if ('url' in resolved) return `${resolved.url}${anchor}`
    if (!existsSync(join(root, resolved.source))) throw new Error(`${path}: the link ${target} is dead`)
    sources.add(resolved.source)
    return `${urlOfSource(resolved.source)}.html`
  })
  // The markers of code blocks are for the tests.
  return text.replaceAll(/^( {0,3}```\w+) .+$/gm, '$1')
}

function copyImage(path: string): string {
  mkdirSync(join(stage, 'public'), { recursive: true })
  copyFileSync(join(root, path), join(stage, 'public', path.replaceAll('/', '-')))
  return `/${path.replaceAll('/', '-')}`
}

/** Writes a plain page that shows a file of the checkout, or the files of a directory. */
function writeSource(path: string, sources: Set<string>): void {
  const file = join(stage, 'public', `${urlOfSource(path)}.html`)
  mkdirSync(dirname(file), { recursive: true })
  const isDirectory = statSync(join(root, path)).isDirectory()
  const body = isDirectory ? listDirectory(path, sources) : `<pre>${escapeHtml(read(path))}</pre>`
  writeFileSync(file, `${head}<title>${path}</title>\n<p><a href="/">Accepted</a></p>\n<h1>${path}</h1>\n${body}\n`)
}

function listDirectory(path: string, sources: Set<string>): string {
  const files = tracked.filter((file) => file.startsWith(`${path}/`))
  const names = new Set(files.map((file) => file.slice(path.length + 1).replace(/\/.*/, '/')))
  const items = [...names].map((name) => {
    const entry = `${path}/${name.replace(/\/$/, '')}`
    return sources.has(entry) ? `<li><a href="${urlOfSource(entry)}.html">${name}</a>` : `<li>${name}`
  })
  return `<ul>\n${items.join('\n')}\n</ul>`
}

const escapeHtml = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')

const head = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<style>
  body { font: 1rem/1.5 system-ui, sans-serif; margin: 1rem auto; max-width: 80rem; padding: 0 1rem }
  h1 { font-size: 1.3rem; overflow-wrap: anywhere }
  pre { font-size: 0.85rem; overflow-x: auto; tab-size: 2 }
</style>
`
