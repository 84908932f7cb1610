import { escapeHtml } from '../protocol/html.ts'
import { pageHeaders } from '../protocol/security-headers.ts'

/** A page for people, with the look of assets/job.css. */
export interface Page {
  title: string
  /** The directory of the script and the styles, as the browser sees it: empty, or with a trailing slash. */
  assets: string
  /** Markup at the end of the head. */
  head?: string
  /** Attributes of the element `main`. */
  attributes?: string
  /** The markup in the element `main`. */
  body: string
}

/** Renders a page. The Content-Security-Policy allows no inline code, so a page loads its script and styles. */
export const renderPage = ({ title, assets, head = '', attributes = '', body }: Page): string => `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escapeHtml(title)}</title>
<link rel="stylesheet" href="${assets}job.css">
${head}</head>
<body>
<main${attributes}>
${body}</main>
</body>
</html>
`

/** The headers of a page without scripts. */
export const staticPageHeaders = {
  ...pageHeaders("style-src 'self'"),
  'content-type': 'text/html; charset=utf-8',
} as const
