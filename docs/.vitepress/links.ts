import { posix } from 'node:path'

/** Where a link leads: to a page of the site, or to a file or directory of the checkout, by its path from the root. */
export type Target = { url: string } | { source: string }

/** Returns the URL of a Markdown file on the site: `docs/sql.md` is `/sql`, and `bench/README.md` is `/bench`. */
export const urlOfPage = (path: string): string =>
  `/${path
    .replace(/^docs\//, '')
    .replace(/\/README\.md$/, '')
    .replace(/\.md$/, '')
    .toLowerCase()}`

/** Returns the URL of a file or a directory of the checkout on the site, without `.html`. */
export const urlOfSource = (path: string): string => `/source/${path}`

/**
 * Resolves a relative link. Pages link to each other and to sources by the paths in the checkout, so that they also work
 * where the repository is browsed.
 *
 * @param page path of the page that contains the link, from the root of the checkout
 * @param isPage whether the site has a page for a Markdown file
 */
export function resolveLink(page: string, target: string, isPage: (path: string) => boolean): Target {
  const path = posix.normalize(posix.join(posix.dirname(page), target)).replace(/\/$/, '')
  if (path === 'README.md') return { url: '/' }
  return isPage(path) ? { url: urlOfPage(path) } : { source: path }
}

/**
 * Rewrites the links of a page outside of its code.
 *
 * @param resolve gets a relative link and its heading, for example `#roles`, and returns what replaces both
 */
export function rewriteLinks(text: string, resolve: (target: string, anchor: string) => string): string {
  // A fenced block or inline code matches first, and stays as it is.
  return text.replaceAll(
    /^ {0,3}(`{3,})[\s\S]*?^ {0,3}\1|`[^`\n]*`|(!?)\]\(([^)\s#]*)(#[^)\s]*)?\)/gm,
    (whole, _fence, _image, target?: string, anchor = '') => {
      if (target === undefined || target === '' || /^[a-z]+:/.test(target)) return whole
      return `](${resolve(target, anchor)})`
    },
  )
}
