import { type ProblemCode, problems } from '../../problems.ts'
import { escapeHtml } from '../protocol/html.ts'
import { renderPage } from './layout.ts'

/** What a page says about a request that was refused. */
export interface RefusedRequest {
  status: number
  title: string
  message: string
  /** The code of the problem. */
  code: string
  details?: readonly unknown[] | undefined
  /** The path of the pages that explain problem codes, as the browser sees it. */
  pages: string
  /** Seconds after which the browser repeats the request. Default: never. */
  refreshSeconds?: number | undefined
}

/** Renders the answer to a browser whose request was refused. Other clients get problem details. */
export function renderRefusal({ status, title, message, code, details = [], pages, refreshSeconds }: RefusedRequest) {
  const isKnown = Object.hasOwn(problems, code)
  const { remedy } = isKnown ? problems[code as ProblemCode] : { remedy: '' }
  return renderPage({
    title: `${status} ${title}`,
    assets: `${pages.slice(0, pages.lastIndexOf('/'))}/`,
    head: refreshSeconds ? `<meta http-equiv="refresh" content="${refreshSeconds}">\n` : '',
    attributes: ' data-status="failed"',
    body: `<p class="above">${status}</p>
<h1 class="title">${escapeHtml(title)}</h1>
${message === title ? '' : `<p>${escapeHtml(message)}.</p>\n`}${details.length > 0 ? `<ul>${details.map((detail) => `<li>${escapeHtml(describe(detail))}</li>`).join('')}</ul>\n` : ''}${
  isKnown ? `<p>${toHtml(remedy)}</p>\n<p class="more"><a href="${pages}/${code}">${code}</a></p>\n` : ''
}`,
  })
}

/** Describes a violation: `/title must be string`. */
function describe(detail: unknown): string {
  const { pointer, message } = Object(detail) as { pointer?: string; message?: string }
  return message === undefined ? JSON.stringify(detail) : `${pointer || 'It'} ${message}`
}

/** Renders the page that explains a problem code. */
export function renderProblem(code: ProblemCode, { hasDocs }: { hasDocs: boolean }): string {
  const { status, title, remedy } = problems[code]
  return renderPage({
    title: code,
    assets: '../',
    body: `<p class="above">HTTP status ${status}</p>
<h1 class="title">${code}</h1>
<p>${toHtml(title)}.</p>
<p>${toHtml(remedy)}</p>
<p class="more"><a href="../problems">All problem types</a>${hasDocs ? ' · <a href="../">API documentation</a>' : ''}</p>
`,
  })
}

const byStatus = (Object.keys(problems) as ProblemCode[]).toSorted((a, b) => problems[a].status - problems[b].status)

/** Renders the list of all problem codes. */
export function renderProblems({ hasDocs }: { hasDocs: boolean }): string {
  const rows = byStatus.map((code) => {
    const { status, title } = problems[code]
    return `<tr><td>${status}</td><th scope="row"><a href="problems/${code}">${code}</a></th><td>${toHtml(title)}</td></tr>\n`
  })
  return renderPage({
    title: 'Problem types',
    assets: '',
    attributes: ' class="wide"',
    body: `<h1 class="title">Problem types</h1>
<p>Errors are answered as <code>application/problem+json</code> (RFC 9457). The member <code>type</code> leads to one of
these pages, and <code>error.code</code> is its name. An app adds codes of its own.</p>
<table>
<thead><tr><th scope="col">Status</th><th scope="col">Code</th><th scope="col">Meaning</th></tr></thead>
<tbody>
${rows.join('')}</tbody>
</table>
${hasDocs ? '<p class="more"><a href="./">API documentation</a></p>\n' : ''}`,
  })
}

const toHtml = (text: string) => escapeHtml(text).replace(/`([^`]*)`/g, '<code>$1</code>')
