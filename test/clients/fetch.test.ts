import t from 'tap'
import { until } from '../support/until.ts'
import { startApp } from './app/start.ts'

const app = await startApp(t)

const post = (path: string, body: object, headers: Record<string, string> = {}) =>
  fetch(app.url + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  })

/** Polls the URL in Location until the status is not 202. Follows redirects. */
const pollLocation = (accepted: Response) =>
  until(async () => {
    const response = await fetch(accepted.headers.get('location') as string)
    if (response.status !== 202) return response
    await response.body?.cancel()
  })

t.test('the URL in Location leads to the resource', async (t) => {
  const accepted = await post('/documents', { text: 'A letter' })
  t.equal(accepted.status, 202)
  const { id } = (await accepted.json()) as { id: string }
  const response = await pollLocation(accepted)
  t.equal(response.status, 200)
  t.equal(response.redirected, true)
  t.equal(response.url, `${app.url}/documents/${id}`)
  t.same(await response.json(), { id, text: 'A letter', state: 'ready' })
})

t.test('the URL in Location leads to the resource after a PUT, and to 204 after a DELETE', async (t) => {
  const url = `${app.url}/documents/my-document`
  const headers = { 'content-type': 'application/json' }
  const put = await fetch(url, { method: 'PUT', headers, body: JSON.stringify({ text: 'A letter' }) })
  t.equal(put.status, 202)
  const document = await pollLocation(put)
  t.equal(document.url, url, 'fetch follows the 303 of a PUT with GET')
  t.same(await document.json(), { id: 'my-document', text: 'A letter', state: 'ready' })
  const removed = await fetch(url, { method: 'DELETE' })
  t.equal(removed.status, 202)
  const nothing = await pollLocation(removed)
  t.equal(nothing.status, 204)
  t.equal(await nothing.text(), '')
  t.equal((await fetch(url)).status, 404)
})

t.test('the URL in Location leads to the inline result', async (t) => {
  const response = await pollLocation(await post('/word-counts', { text: 'four words of mine' }))
  t.equal(response.status, 200)
  t.equal(response.redirected, false)
  t.same(await response.json(), { words: 4 })
})

t.test('the URL in Location leads to the error and the monitor of a failed job', async (t) => {
  const accepted = await post('/checks', { text: 'There is a comma too many' })
  const { id } = (await accepted.json()) as { id: string }
  const response = await pollLocation(accepted)
  t.equal(response.status, 422)
  t.match(response.headers.get('content-type'), 'application/problem+json')
  const error = { code: 'text-refused', message: 'There is a comma too many', details: [{ pointer: '/text' }] }
  t.match(await response.json(), { error, job: { id, status: 'failed', error } })
})

t.test(
  'after a POST with `wait` and `return=representation`, fetch follows the redirect to the resource',
  async (t) => {
    const response = await post('/documents', { text: 'A letter' }, { prefer: 'wait=30, return=representation' })
    t.equal(response.status, 200)
    t.equal(response.redirected, true, 'fetch follows the 303 with GET')
    t.match(await response.json(), { text: 'A letter', state: 'ready' })
  },
)

t.test('a DELETE without a body can be repeated with the same key', async (t) => {
  const remove = () =>
    fetch(`${app.url}/documents/unknown`, { method: 'DELETE', headers: { 'idempotency-key': 'remove' } })
  const first = (await (await remove()).json()) as { id: string }
  const second = await remove()
  t.equal(second.status, 202)
  t.equal(second.headers.get('idempotent-replayed'), 'true')
  t.match(await second.json(), { id: first.id })
})
