// Keeps the parts of a page that have `data-live` up to date. Without scripts, the pages work when they are reloaded.
const main = document.querySelector('main')
const intervalMs = Number(main.dataset.refresh ?? 0) * 1000

/** Whether replacing an element would disturb the person: it has the focus, or something in it is unfolded. */
const isInUse = (element) => element.contains(document.activeElement) || element.querySelector('details[open]') !== null

async function refresh() {
  const response = await fetch(location.href, { headers: { accept: 'text/html' } })
  // The session has ended: the login page is shown.
  if (response.redirected) return location.reload()
  if (!response.ok) return
  const fresh = new DOMParser().parseFromString(await response.text(), 'text/html')
  document.title = fresh.title
  for (const old of document.querySelectorAll('[data-live]')) {
    const next = fresh.getElementById(old.id)
    if (next && !isInUse(old) && next.outerHTML !== old.outerHTML) old.replaceWith(next)
  }
  const freshMain = fresh.querySelector('main')
  const badge = main.querySelector('.title .badge')
  if (badge) badge.replaceWith(freshMain.querySelector('.title .badge') ?? badge)
  // A section has come or gone, for example the first stuck job.
  const ids = (root) => [...root.querySelectorAll('[data-live]')].map(({ id }) => id).join()
  if (ids(document) !== ids(fresh) && !isInUse(main)) main.replaceChildren(...freshMain.childNodes)
  document.dispatchEvent(new Event('console:refreshed'))
  return freshMain.dataset.refresh !== undefined
}

async function refreshAgain() {
  // A hidden page waits until it is shown, and so does one of an API that does not answer.
  const continues = document.hidden || ((await refresh().catch(() => true)) ?? true)
  if (continues) setTimeout(refreshAgain, intervalMs)
}

if (intervalMs > 0) setTimeout(refreshAgain, intervalMs)
