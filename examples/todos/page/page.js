// The page of the example: it submits with fetch, and one EventSource follows all jobs of the caller.
const $ = (id) => document.getElementById(id)

/** Submits a job. Its progress arrives as an event. */
async function submit(path, body, headers) {
  $('error').textContent = ''
  const response = await fetch(path, { method: 'POST', headers, body }).catch(() => undefined)
  if (response?.ok) return show(await response.json())
  const problem = await response?.json().catch(() => undefined)
  $('error').textContent = problem?.detail ?? 'The API does not answer. Try again.'
}

const submitJson = (path, value = {}) => {
  // If the answer is lost, the same request could be repeated with the same key.
  const headers = { 'content-type': 'application/json', 'idempotency-key': crypto.randomUUID() }
  return submit(path, JSON.stringify(value), headers)
}

$('create').addEventListener('submit', async (event) => {
  event.preventDefault()
  const filled = [...new FormData(event.target)].filter(([, value]) => value !== '')
  await submitJson('todos', Object.fromEntries(filled))
  if (!$('error').textContent) event.target.reset()
})

$('import').addEventListener('submit', async (event) => {
  event.preventDefault()
  const { files } = event.target.elements.file
  const type = files[0].name.endsWith('.csv') ? 'text/csv' : 'application/x-ndjson'
  await submit('imports', files[0], { 'content-type': type })
})

$('export').addEventListener('click', () => submitJson('exports', { format: 'csv' }))

/** Text of others goes into the page only as text. */
function element(name, { on, ...properties }, ...children) {
  const made = Object.assign(document.createElement(name), properties)
  if (on) made.addEventListener('click', on)
  made.append(...children)
  return made
}

const ended = ['succeeded', 'failed', 'canceled']
const jobs = new Map()
const maxJobs = 10

/** Shows a job, the newest at the top. The answer of a request may arrive after newer events: these are kept. */
function show(job) {
  if ((jobs.get(job.id)?.sequence ?? -1) >= job.sequence) return
  jobs.set(job.id, job)
  const item = jobItem(job)
  const shown = $(item.id)
  // Ids are in the order of time.
  const next = [...$('jobs').children].find(({ id }) => id < item.id) ?? null
  if (shown) shown.replaceWith(item)
  else $('jobs').insertBefore(item, next)
  $('jobs').children[maxJobs]?.remove()
  if (ended.includes(job.status)) refreshSoon()
}

function jobItem({ id, operation, status, percentComplete, message, error, links, resourceLocation }) {
  const text = error?.message ?? message ?? ''
  return element(
    'li',
    { id: `job-${id}`, className: status },
    element('a', { href: `jobs/${id}`, textContent: operation }),
    element('span', { className: 'status', textContent: status }),
    ...(status === 'running'
      ? [element('progress', { max: 100, value: percentComplete ?? 0, ariaLabel: operation })]
      : []),
    element('small', { textContent: text }),
    ...(ended.includes(status)
      ? []
      : [element('button', { textContent: 'Cancel', on: () => submitJson(links.cancel) })]),
    ...(resourceLocation ? [element('a', { href: resourceLocation, textContent: 'Result' })] : []),
  )
}

function todoItem({ id, title, dueBy, status, completedAt }) {
  const isOpen = status === 'ready' && !completedAt
  return element(
    'li',
    { className: completedAt ? 'completed' : status },
    element('span', { textContent: title }),
    element('small', {
      textContent: completedAt ? 'completed' : [status, dueBy && `due ${dueBy}`].filter(Boolean).join(', '),
    }),
    ...(isOpen ? [element('button', { textContent: 'Complete', on: () => submitJson(`todos/${id}/complete`) })] : []),
  )
}

const read = (path) => fetch(path).then((response) => response.json())

async function refresh() {
  const [todos, summary] = await Promise.all([read('todos'), read('summary')])
  $('todos').replaceChildren(...todos.slice(0, 20).map(todoItem))
  const { completed, overdue } = summary
  $('summary').textContent = `${summary.todos} todos, ${completed} completed, ${overdue} overdue`
}

/** Many jobs may end together, and the summary follows a second later. */
let timer
function refreshSoon() {
  clearTimeout(timer)
  timer = setTimeout(
    () => Promise.all([refresh(), new Promise((resolve) => setTimeout(resolve, 1_500)).then(refresh)]),
    100,
  )
}

const events = new EventSource('events')
events.addEventListener('status', ({ data }) => show(JSON.parse(data)))
events.addEventListener('progress', ({ data }) => {
  // It has only the members that have changed.
  const progress = JSON.parse(data)
  const job = jobs.get(progress.id)
  if (job) show({ ...job, ...progress })
})
await refresh()
