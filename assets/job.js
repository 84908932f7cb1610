// The page of a job works without this: it refreshes itself. With it, it follows the job's events instead.
const main = document.querySelector('main')
const { events, sequence, status } = main.dataset
const finals = ['succeeded', 'failed', 'canceled']
const element = (id) => document.getElementById(id)

/** Puts a text into an element, and hides one that has nothing to say. */
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
  const isFinal = finals.includes(job.status)
  main.dataset.status = job.status
  show('status', job.cancelRequested && !isFinal ? `${job.status}, to be canceled` : job.status)
  document.title = `${job.status} · ${job.operation}`
  showProgress(job)
  element('progress').hidden = isFinal && job.status !== 'succeeded'
  // How far it came says nothing any more.
  element('percent').hidden ||= element('progress').hidden
  show('error', job.error && `${job.error.message} (${job.error.code})`)
  element('outcome').hidden = job.status !== 'succeeded'
  showTime('started', job.startedAt)
  showTime('ended', job.endedAt)
  show('attempt', `${job.attempt} of ${job.maxAttempts}`)
  return isFinal
}

if (!finals.includes(status)) {
  const source = new EventSource(`${events}?lastEventId=${sequence}`)
  source.addEventListener('progress', ({ data }) => showProgress(JSON.parse(data)))
  source.addEventListener('status', ({ data }) => {
    if (showJob(JSON.parse(data))) source.close()
  })
  source.addEventListener('error', () => {
    // It connects again by itself, unless it was refused.
    if (source.readyState === EventSource.CLOSED) setTimeout(comeBack, 5000)
  })
}

/** Loads the page anew, which says why it was refused; not while there is nobody who could answer. */
async function comeBack() {
  const answer = await fetch(location.href, { method: 'HEAD', headers: { accept: 'text/html' } }).catch(() => undefined)
  if (answer && answer.status < 500) location.reload()
  else setTimeout(comeBack, 5000)
}
