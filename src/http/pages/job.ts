import type { Monitor } from '../../jobs/monitor-schema.ts'
import { isFinal } from '../../jobs/status.ts'
import { escapeHtml } from '../protocol/html.ts'
import { duration } from './duration.ts'
import { renderPage } from './layout.ts'

/** A child of a job, as its page lists it. */
export type ListedChild = Pick<Monitor, 'id' | 'operation' | 'status'>

/** What the caller may do with the job, besides reading it. */
export type JobAction = 'cancel' | 'retry'

export interface JobPageOptions {
  /** The directory of the script and the styles, relative to the page. */
  assets: string
  /** The query of the links. */
  query: string
  /** Seconds between reloads if scripts are disabled; undefined if the page must not reload. */
  refreshSeconds: number | undefined
  /** The buttons of the page. The script shows and hides them when the status changes. */
  actions: readonly JobAction[]
  /** The idempotency key of the button that retries, so that two clicks make one retry. */
  retryKey: string
  /** The newest children that the caller may see; undefined if the page lists none. */
  children: readonly ListedChild[] | undefined
  /** Whether the caller may open the pages of related jobs. */
  linksToJobs: boolean
}

const hidden = (isHidden: boolean) => (isHidden ? ' hidden' : '')

/**
 * Renders the page of a job. In the browser, assets/job.js keeps the page up to date. The links are relative to the
 * page, so they lead through the same proxy.
 */
export function renderJobPage(job: Monitor, options: JobPageOptions): string {
  const { assets, query, refreshSeconds } = options
  const refresh = refreshSeconds && `<noscript><meta http-equiv="refresh" content="${refreshSeconds}"></noscript>\n`
  return renderPage({
    title: `${job.status} · ${job.operation}`,
    assets,
    head: `<script src="${assets}job.js" type="module"></script>\n${refresh || ''}`,
    attributes: ` data-events="${job.id}/events${query}" data-sequence="${job.sequence}" data-status="${job.status}"`,
    body: `${renderStatus(job, options)}${renderActions(job, options)}${renderFacts(job, options)}${renderChildren(job, options)}`,
  })
}

function renderStatus(job: Monitor, { query }: JobPageOptions): string {
  const { percentComplete: percent, message, error } = job
  const text = (id: string, content: string | undefined, attributes = '') =>
    `<p id="${id}"${attributes}${hidden(!content)}>${escapeHtml(content ?? '')}</p>`
  const hasFailed = job.status === 'failed' || job.status === 'canceled'
  const isCanceling = job.cancelRequested && !job.endedAt
  return `<h1>${escapeHtml(job.operation)}</h1>
<div role="status">
${text('status', isCanceling ? `${job.status}, cancellation requested` : job.status)}
${text('message', job.status === 'failed' ? undefined : message)}
${text('waiting', waitReasonOf(job))}
</div>
<progress id="progress" max="100" aria-label="Progress"${percent === undefined ? '' : ` value="${percent}"`}${hidden(hasFailed)}></progress>
${text('percent', percent === undefined || hasFailed ? undefined : `${percent} %`)}
${text('error', error && `${error.message} (${error.code})`, ' role="alert"')}
<p id="outcome"${hidden(job.status !== 'succeeded')}><a href="${job.id}/result${query}">View the result</a></p>
`
}

/** Says why a queued job does not start. assets/job.js says the same. */
function waitReasonOf({
  status,
  attempt,
  maxAttempts,
  lastError,
  nextAttemptAt,
  waitingFor,
}: Monitor): string | undefined {
  if (status !== 'queued') return undefined
  const next =
    nextAttemptAt &&
    `${attempt > 0 ? 'The next attempt starts' : 'It starts'} at ${utc(nextAttemptAt)} at the earliest.`
  const failed = lastError && `Attempt ${attempt} of ${maxAttempts} failed: ${lastError.message} (${lastError.code}).`
  const others =
    waitingFor && `It waits for ${waitingFor.length === 1 ? 'another job' : `${waitingFor.length} other jobs`}.`
  return [failed, others, next].filter(Boolean).join(' ')
}

/** The forms work without scripts: they lead back to a page. */
function renderActions(job: Monitor, { actions, retryKey }: JobPageOptions): string {
  if (actions.length === 0) return ''
  const form = (name: JobAction, label: string, action: string, isShown: boolean) =>
    actions.includes(name)
      ? `<form id="${name}" method="post" action="${job.id}/${action}"${hidden(!isShown)}><button type="submit">${label}</button></form>`
      : ''
  return `<div class="actions">${form('cancel', 'Cancel the job', 'cancel', isCancelable(job))}${form(
    'retry',
    'Run it again',
    `retry?key=${retryKey}`,
    isRetryable(job),
  )}</div>
`
}

const isCancelable = ({ status, cancelRequested }: Monitor) => !isFinal(status) && !cancelRequested
const isRetryable = ({ status }: Monitor) => status === 'failed' || status === 'canceled'

function renderFacts(job: Monitor, { query, linksToJobs }: JobPageOptions): string {
  const row = (id: string, label: string, value: string | undefined) =>
    `<dt${hidden(!value)}>${label}</dt><dd id="${id}"${hidden(!value)}>${value ?? ''}</dd>\n`
  const time = (at: string | undefined) => `<time datetime="${at ?? ''}">${at ? utc(at) : ''}</time>`
  const timeRow = (id: string, label: string, at: string | undefined) =>
    `<dt${hidden(!at)}>${label}</dt><dd id="${id}"${hidden(!at)}>${time(at)}</dd>\n`
  const link = (id: string | undefined) => id && (linksToJobs ? `<a href="${id}${query}">${id}</a>` : id)
  const { startedAt, endedAt, createdAt } = job
  return `<dl>
<dt>Job</dt><dd>${job.id}</dd>
${timeRow('created', 'Accepted', createdAt)}${timeRow('started', 'Started', startedAt)}${row('waited', 'Waited for', startedAt && durationBetween(createdAt, startedAt))}${timeRow('estimated', 'Estimated completion', job.estimatedCompletionAt)}${timeRow('ended', 'Ended', endedAt)}${row('took', 'Ran for', startedAt && endedAt && durationBetween(startedAt, endedAt))}<dt>Attempt</dt><dd id="attempt">${job.attempt} of ${job.maxAttempts}</dd>
${row('retry-of', 'Retry of', link(job.retryOf))}${row('parent', 'Part of', link(job.parent))}${row('children', 'Jobs in it', job.children && countChildren(job.children))}</dl>
`
}

/** Describes how many children have ended. assets/job.js says the same. */
const countChildren = ({ total, succeeded, failed, canceled }: NonNullable<Monitor['children']>): string =>
  `${succeeded + failed + canceled} of ${total} ended: ${succeeded} succeeded, ${failed} failed, ${canceled} canceled`

function renderChildren({ children: counts }: Monitor, { children, query }: JobPageOptions): string {
  if (!counts || !children || children.length === 0) return ''
  const items = children.map(
    ({ id, operation, status }) =>
      `<li data-status="${status}"><a href="${id}${query}">${escapeHtml(operation)} <span>${id}</span></a> <strong>${status}</strong></li>\n`,
  )
  const heading = counts.total > children.length ? `The newest ${children.length} jobs in it` : 'The jobs in it'
  return `<section aria-labelledby="list-heading">
<h2 id="list-heading">${heading}</h2>
<ul id="list">
${items.join('')}</ul>
</section>
`
}

const utc = (time: string) => `${time.slice(0, 19).replace('T', ' ')} UTC`

const durationBetween = (from: string, to: string) => duration(Math.max(Date.parse(to) - Date.parse(from), 0) / 1000)
