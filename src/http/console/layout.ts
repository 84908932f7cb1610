import { type Content, type Html, html } from './html.ts'

/** A link in the navigation. */
export interface NavigationItem {
  label: string
  path: string
}

/** What happened to the form that the browser has just sent. */
export interface Notice {
  isError: boolean
  text: string
}

export interface PageContent {
  title: string
  /** The body of the page, below its heading. */
  body: Content
  /** What stands above the heading, for example a link to a list. */
  above?: Content
  /** What stands beside the heading, for example a status. */
  beside?: Content
  /** Seconds after which the script updates the sections that have an id. Default: never. */
  refreshSeconds?: number
  /** Further scripts and styles in the directory of the assets. */
  scripts?: readonly string[]
  styles?: readonly string[]
}

export interface LayoutOptions {
  /** The path of the console. */
  base: string
  /** The page's own path, to mark it in the navigation. */
  path: string
  navigation: readonly NavigationItem[]
  notice?: Notice | undefined
  /** The principal of the session. Undefined: there is no session, and so no button that ends it. */
  user?: string | undefined
}

/** Renders a page of the console. */
export function renderPage(content: PageContent, options: LayoutOptions): string {
  const { base, notice, user } = options
  const { title, refreshSeconds, scripts = [], styles = [] } = content
  return `<!doctype html>
${
  html`<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${title} · Accepted</title>
${['console.css', ...styles].map((name) => html`<link rel="stylesheet" href="${base}/assets/${name}">\n`)}${[
  'console.js',
  ...scripts,
].map((name) => html`<script src="${base}/assets/${name}" type="module"></script>\n`)}</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header class="bar">
<a class="brand" href="${base}">Accepted</a>
${navigate(options)}
${user !== undefined && html`<form method="post" action="${base}/logout" class="user"><span title="Signed in as">${user}</span><button type="submit">Sign out</button></form>`}
</header>
<main id="main"${refreshSeconds !== undefined && html` data-refresh="${refreshSeconds}"`}>
${content.above && html`<p class="above">${content.above}</p>`}
<div class="title"><h1>${title}</h1>${content.beside}</div>
${notice && html`<p class="notice${notice.isError && html` error`}" role="${notice.isError ? 'alert' : 'status'}">${notice.text}</p>`}
${content.body}
</main>
</body>
</html>
`.text
}`
}

function navigate({ base, path, navigation }: LayoutOptions): Html | undefined {
  if (navigation.length === 0) return undefined
  const isHere = (item: NavigationItem) =>
    item.path === '/' ? path === '/' : path === item.path || path.startsWith(`${item.path}/`)
  return html`<nav aria-label="Console"><ul>${navigation.map(
    (item) =>
      html`<li><a href="${base}${item.path === '/' ? '' : item.path}"${isHere(item) && html` aria-current="page"`}>${item.label}</a></li>`,
  )}</ul></nav>`
}
