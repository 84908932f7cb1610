import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Job } from '../../jobs/job.ts'
import type { Monitor } from '../../jobs/monitor.ts'
import { linkTokenOf, tokenParameter } from '../job-link.ts'
import { escapeHtml } from '../protocol/html.ts'
import { monitorOf, retryAfterOf } from '../protocol/links.ts'
import { pageHeaders } from '../protocol/security-headers.ts'
import type { RoutePaths } from '../route-paths.ts'
import type { Service } from '../service.ts'

/** The directory of the package that contains the page's script and styles. */
const assetsDirectory = join(fileURLToPath(new URL('.', import.meta.resolve('accepted/package.json'))), 'assets')

/** The page loads files only from its own origin. It runs no inline scripts, and no other page can embed it. */
const headers = {
  'content-type': 'text/html; charset=utf-8',
  'cache-control': 'private, no-cache',
  ...pageHeaders("script-src 'self'", "style-src 'self'", "connect-src 'self'"),
}

/** Adds the routes of the page's script and styles, because the Content-Security-Policy forbids inline code. */
export async function jobPageAssetRoutes(app: FastifyInstance, { paths }: Service): Promise<void> {
  for (const [name, type] of [
    ['job.css', 'text/css; charset=utf-8'],
    ['job.js', 'text/javascript; charset=utf-8'],
  ] as const) {
    const content = await readFile(join(assetsDirectory, name))
    app.get(`${paths.docs || paths.jobs}/${name}`, { schema: { hide: true } }, async (_request, reply) =>
      reply.headers({ 'content-type': type, 'cache-control': 'public, max-age=300' }).send(content),
    )
  }
}

/**
 * Answers with the live page of a job. If scripts are disabled, the page reloads itself until the job ends. The
 * interval is Retry-After, but at least 2 s and at most 10 s.
 */
export function sendJobPage(service: Service, reply: FastifyReply, job: Job): FastifyReply {
  const retryAfter = retryAfterOf(service, job)
  const { 'retry-after': seconds } = retryAfter
  const refreshSeconds = seconds && Math.min(Math.max(seconds, 2), 10)
  return reply.headers({ ...headers, ...retryAfter }).send(
    renderJobPage(monitorOf(service, reply.request, job), {
      assets: linkToAssets(service.paths),
      query: linkQueryOf(reply.request),
      refreshSeconds,
    }),
  )
}

/** A page that was opened with the token of a link passes the token on. */
function linkQueryOf(request: FastifyRequest): string {
  return request.linkedJobId === undefined ? '' : `?${tokenParameter}=${encodeURIComponent(`${linkTokenOf(request)}`)}`
}

const linkToAssets = ({ docs, jobs }: RoutePaths): string =>
  docs ? `${'../'.repeat(jobs.split('/').length - 1)}${docs.slice(1)}/` : ''

/**
 * Renders the page of a job. In the browser, assets/job.js keeps the page up to date. The links are relative to the
 * page, so they lead through the same proxy.
 *
 * @param options.assets the directory of the script and the styles, relative to the page
 * @param options.query the query of the links
 * @param options.refreshSeconds seconds between reloads if scripts are disabled; undefined if the page must not reload
 */
function renderJobPage(
  job: Monitor,
  { assets, query, refreshSeconds }: { assets: string; query: string; refreshSeconds: number | undefined },
): string {
  const { percentComplete: percent, message, error } = job
  const hidden = (isHidden: boolean) => (isHidden ? ' hidden' : '')
  const text = (id: string, content: string | undefined, attributes = '') =>
    `<p id="${id}"${attributes}${hidden(!content)}>${escapeHtml(content ?? '')}</p>`
  const time = (id: string, label: string, at: string | undefined) =>
    `<dt${hidden(!at)}>${label}</dt>` +
    `<dd id="${id}"${hidden(!at)}><time datetime="${at ?? ''}">${at ? utc(at) : ''}</time></dd>`
  const value = percent === undefined ? '' : ` value="${percent}"`
  const hasFailed = job.status === 'failed' || job.status === 'canceled'
  const isCanceling = job.cancelRequested && !job.endedAt
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${job.status} · ${escapeHtml(job.operation)}</title>
<link rel="stylesheet" href="${assets}job.css">
<script src="${assets}job.js" type="module"></script>
${refreshSeconds ? `<noscript><meta http-equiv="refresh" content="${refreshSeconds}"></noscript>\n` : ''}</head>
<body>
<main data-events="${job.id}/events${query}" data-sequence="${job.sequence}" data-status="${job.status}">
<h1>${escapeHtml(job.operation)}</h1>
<div role="status">
${text('status', isCanceling ? `${job.status}, cancellation requested` : job.status)}
${text('message', message)}
</div>
<progress id="progress" max="100" aria-label="Progress"${value}${hidden(hasFailed)}></progress>
${text('percent', percent === undefined || hasFailed ? undefined : `${percent} %`)}
${text('error', error && `${error.message} (${error.code})`, ' role="alert"')}
<p id="outcome"${hidden(job.status !== 'succeeded')}><a href="${job.id}/result${query}">View the result</a></p>
<dl>
<dt>Job</dt><dd>${job.id}</dd>
${time('created', 'Accepted', job.createdAt)}
${time('started', 'Started', job.startedAt)}
${time('estimated', 'Estimated completion', job.estimatedCompletionAt)}
${time('ended', 'Ended', job.endedAt)}
<dt>Attempt</dt><dd id="attempt">${job.attempt} of ${job.maxAttempts}</dd>
</dl>
</main>
</body>
</html>
`
}

const utc = (time: string) => `${time.slice(0, 19).replace('T', ' ')} UTC`
