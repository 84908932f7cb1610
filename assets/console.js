// Keeps the parts of a page that have `data-live` up to date. Without scripts, the pages work when they are reloaded.
const main = document.querySelector('main')
const intervalMs = Number(main.dataset.refresh ?? 0) * 1000

/** Whether replacing an element would disturb the person: it has the focus, or something in it is unfolded. */
const isInUse = (element) => element.contains(document.activeElement) || element.querySelector('details[open]') !== null

function replaceParts(fresh) {
  for (const selector of ['[data-live]', '.title .badge']) {
    const next = fresh.querySelectorAll(selector)
    for (const [index, old] of document.querySelectorAll(selector).entries()) {
      if (next[index] && !isInUse(old) && next[index].outerHTML !== old.outerHTML) old.replaceWith(next[index])
    }
  }
}

async function refresh() {
  const response = await fetch(location.href, { headers: { accept: 'text/html' } })
  // The session has ended: the login page is shown.
  if (response.redirected) return location.reload()
  if (!response.ok) return
  const fresh = new DOMParser().parseFromString(await response.text(), 'text/html')
  document.title = fresh.title
  const freshMain = fresh.querySelector('main')
  const ids = (root) => [...root.querySelectorAll('[data-live]')].map(({ id }) => id).join()
  if (ids(document) === ids(fresh)) replaceParts(fresh)
  // A section has come or gone, for example the first stuck job.
  else if (!isInUse(main)) main.replaceChildren(...freshMain.childNodes)
  document.dispatchEvent(new Event('console:refreshed'))
  return freshMain.dataset.refresh !== undefined
}

async function refreshAgain() {
  // A hidden page waits until it is shown, and so does one of an API that does not answer.
  const continues = document.hidden || ((await refresh().catch(() => true)) ?? true)
  if (continues) setTimeout(refreshAgain, intervalMs)
}

if (intervalMs > 0) setTimeout(refreshAgain, intervalMs)
