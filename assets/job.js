// Keeps the page of a job up to date from its event stream. Without scripts, the page reloads itself instead.
const main = document.querySelector('main')
const { events, sequence, status } = main.dataset
const finalStatuses = ['succeeded', 'failed', 'canceled']
const reloadDelayMs = 5000
const listIntervalMs = 2000
const element = (id) => document.getElementById(id)

/** Sets the text of an element; hides the element if there is no text. */
function show(id, text) {
  element(id).textContent = text ?? ''
  element(id).hidden = !text
}

/** Says why a queued job does not start, as the server does. */
function waitReasonOf({ status, attempt, maxAttempts, lastError, nextAttemptAt, waitingFor }) {
  if (status !== 'queued') return ''
  const start = attempt > 0 ? 'The next attempt starts' : 'It starts'
  return [
    lastError && `Attempt ${attempt} of ${maxAttempts} failed: ${lastError.message} (${lastError.code}).`,
    waitingFor && `It waits for ${waitingFor.length === 1 ? 'another job' : `${waitingFor.length} other jobs`}.`,
    nextAttemptAt && `${start} at ${utc(nextAttemptAt)} at the earliest.`,
  ]
    .filter(Boolean)
    .join(' ')
}

const countChildren = ({ total, succeeded, failed, canceled }) =>
  `${succeeded + failed + canceled} of ${total} ended: ${succeeded} succeeded, ${failed} failed, ${canceled} canceled`

const units = [
  [86400, 'd'],
  [3600, 'h'],
  [60, 'min'],
  [1, 's'],
]

/** Formats a duration, as the server does. */
function duration(from, to) {
  const seconds = Math.max(to - from, 0) / 1000
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`
  if (seconds < 60) return `${seconds < 10 ? Number(seconds.toFixed(1)) : Math.round(seconds)} s`
  const index = units.findIndex(([size]) => seconds >= size)
  const [[size, unit], [smaller, smallerUnit]] = units.slice(index)
  const rest = Math.floor((seconds % size) / smaller)
  return `${Math.floor(seconds / size)} ${unit}${rest > 0 ? ` ${rest} ${smallerUnit}` : ''}`
}

const utc = (time) => `${time.slice(0, 19).replace('T', ' ')} UTC`

function showProgress({ percentComplete, message, estimatedCompletionAt }) {
  const progress = element('progress')
  if (percentComplete === undefined) progress.removeAttribute('value')
  else progress.value = percentComplete
  show('percent', percentComplete === undefined ? '' : `${percentComplete} %`)
  show('message', message)
  showTime('estimated', estimatedCompletionAt)
}

function showTime(id, time) {
  const row = element(id)
  row.hidden = !time
  row.previousElementSibling.hidden = !time
  if (!time) return
  row.firstElementChild.dateTime = time
  row.firstElementChild.textContent = utc(time)
}

/** Sets the text of a row; hides the row if there is no text. */
function showRow(id, text) {
  show(id, text)
  element(id).previousElementSibling.hidden = !text
}

function showDurations({ createdAt, startedAt, endedAt }) {
  const [created, started, ended] = [createdAt, startedAt, endedAt].map((time) => time && Date.parse(time))
  showRow('waited', started && duration(created, started))
  showRow('took', started && ended && duration(started, ended))
}

/** A button is on the page only if the caller has its scope. */
function showActions({ status, cancelRequested }) {
  const cancel = element('cancel')
  if (cancel) cancel.hidden = finalStatuses.includes(status) || cancelRequested
  const retry = element('retry')
  if (retry) retry.hidden = status !== 'failed' && status !== 'canceled'
}

let isListOld = false
let isListUpdating = false

/** Replaces the list of the children with that of a new page, at most every two seconds. */
async function updateList() {
  isListOld = true
  if (isListUpdating || !element('list')) return
  isListUpdating = true
  while (isListOld) {
    isListOld = false
    const response = await fetch(location.href, { headers: { accept: 'text/html' } }).catch(() => undefined)
    const page = response?.ok ? new DOMParser().parseFromString(await response.text(), 'text/html') : undefined
    const list = page?.getElementById('list')
    if (list) element('list').replaceChildren(...list.children)
    await new Promise((resolve) => setTimeout(resolve, listIntervalMs))
  }
  isListUpdating = false
}

function showJob(job) {
  const isFinal = finalStatuses.includes(job.status)
  main.dataset.status = job.status
  show('status', job.cancelRequested && !isFinal ? `${job.status}, cancellation requested` : job.status)
  document.title = `${job.status} · ${job.operation}`
  showProgress(job)
  element('progress').hidden = isFinal && job.status !== 'succeeded'
  // The percentage is meaningless after a failure or a cancellation.
  element('percent').hidden ||= element('progress').hidden
  // What the job did last would stand above its error.
  if (job.status === 'failed') show('message', '')
  show('error', job.error && `${job.error.message} (${job.error.code})`)
  element('outcome').hidden = job.status !== 'succeeded'
  showTime('started', job.startedAt)
  showTime('ended', job.endedAt)
  showDurations(job)
  show('waiting', waitReasonOf(job))
  if (job.children) {
    showRow('children', countChildren(job.children))
    updateList()
  }
  showActions(job)
  show('attempt', `${job.attempt} of ${job.maxAttempts}`)
  return isFinal
}

if (!finalStatuses.includes(status)) {
  const source = new EventSource(`${events}${events.includes('?') ? '&' : '?'}lastEventId=${sequence}`)
  source.addEventListener('progress', ({ data }) => showProgress(JSON.parse(data)))
  source.addEventListener('status', ({ data }) => {
    if (showJob(JSON.parse(data))) source.close()
  })
  source.addEventListener('error', () => {
    // An EventSource reconnects by itself, unless the server refused the request.
    if (source.readyState === EventSource.CLOSED) setTimeout(reloadWhenReachable, reloadDelayMs)
  })
}

/** Reloads the page, which then shows why the stream was refused. While the API is unavailable, it tries again later. */
async function reloadWhenReachable() {
  const response = await fetch(location.href, { method: 'HEAD', headers: { accept: 'text/html' } }).catch(
    () => undefined,
  )
  if (response && response.status < 500) location.reload()
  else setTimeout(reloadWhenReachable, reloadDelayMs)
}
