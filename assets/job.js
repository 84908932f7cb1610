// Keeps the page of a job up to date from its event stream. Without scripts, the page reloads itself instead.
const main = document.querySelector('main')
const { events, sequence, status } = main.dataset
const finalStatuses = ['succeeded', 'failed', 'canceled']
const reloadDelayMs = 5000
const element = (id) => document.getElementById(id)

/** Sets the text of an element; hides the element if there is no text. */
function show(id, text) {
  element(id).textContent = text ?? ''
  element(id).hidden = !text
}

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
  row.firstElementChild.textContent = `${time.slice(0, 19).replace('T', ' ')} UTC`
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
  show('error', job.error && `${job.error.message} (${job.error.code})`)
  element('outcome').hidden = job.status !== 'succeeded'
  showTime('started', job.startedAt)
  showTime('ended', job.endedAt)
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
