import { existsSync, globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Returns the links of the built site that lead to no file, or to no element of a page: `/page.html -> /target#id`. */
export function findDeadLinks(directory: string): string[] {
  const pages = new Map(
    globSync('**/*.html', { cwd: directory }).map((file) => [`/${file}`, readFileSync(join(directory, file), 'utf8')]),
  )
  const ids = new Map<string, Set<string>>()
  const idsOf = (page: string) => {
    const known =
      ids.get(page) ?? new Set([...(pages.get(page) ?? '').matchAll(/ id="([^"]+)"/g)].map(([, id]) => id as string))
    ids.set(page, known)
    return known
  }
  const pageOf = (path: string) =>
    [path, `${path}.html`, `${path.replace(/\/$/, '')}/index.html`].find((one) => pages.has(one))
  const dead = [...pages].flatMap(([page, html]) =>
    [...html.matchAll(/<a [^>]*href="([^"]+)"/g)].flatMap(([, href = '']) => {
      const url = new URL(href.replaceAll('&amp;', '&'), `http://site${page}`)
      if (url.host !== 'site') return []
      const path = decodeURIComponent(url.pathname)
      const target = pageOf(path)
      if (!target) return existsSync(join(directory, path)) ? [] : [`${page} -> ${href}`]
      const id = decodeURIComponent(url.hash.slice(1))
      return id === '' || idsOf(target).has(id) ? [] : [`${page} -> ${href}`]
    }),
  )
  return [...new Set(dead)]
}
