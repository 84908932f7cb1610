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

/** Follows Location, with redirects on, until it leads to something else than 202. */
const follow = (accepted: Response) =>
  until(async () => {
    const response = await fetch(accepted.headers.get('location') as string)
    if (response.status !== 202) return response
    await response.body?.cancel()
  })

t.test('Location leads to the resource', async (t) => {
  const accepted = await post('/documents', { text: 'A letter' })
  t.equal(accepted.status, 202)
  const { id } = (await accepted.json()) as { id: string }
  const response = await follow(accepted)
  t.equal(response.status, 200)
  t.equal(response.redirected, true)
  t.equal(response.url, `${app.url}/documents/${id}`)
  t.same(await response.json(), { id, text: 'A letter', state: 'ready' })
})

t.test('a PUT and a DELETE without a body lead where they should', async (t) => {
  const url = `${app.url}/documents/of-my-own`
  const headers = { 'content-type': 'application/json' }
  const put = await fetch(url, { method: 'PUT', headers, body: JSON.stringify({ text: 'A letter' }) })
  t.equal(put.status, 202)
  const document = await follow(put)
  t.equal(document.url, url, 'the 303 of a PUT is followed by GET')
  t.same(await document.json(), { id: 'of-my-own', text: 'A letter', state: 'ready' })
  const removed = await fetch(url, { method: 'DELETE' })
  t.equal(removed.status, 202)
  const nothing = await follow(removed)
  t.equal(nothing.status, 204)
  t.equal(await nothing.text(), '')
  t.equal((await fetch(url)).status, 404)
})

t.test('Location leads to the inline result', async (t) => {
  const response = await follow(await post('/word-counts', { text: 'four words of mine' }))
  t.equal(response.status, 200)
  t.equal(response.redirected, false)
  t.same(await response.json(), { words: 4 })
})

t.test('Location leads to the error of a job that failed, with the job', async (t) => {
  const accepted = await post('/checks', { text: 'There is a comma too many' })
  const { id } = (await accepted.json()) as { id: string }
  const response = await follow(accepted)
  t.equal(response.status, 422)
  t.match(response.headers.get('content-type'), 'application/problem+json')
  const error = { code: 'text-refused', message: 'There is a comma too many', details: [{ pointer: '/text' }] }
  t.match(await response.json(), { error, job: { id, status: 'failed', error } })
})

t.test('a POST that waits for the representation ends at the resource by itself', async (t) => {
  const response = await post('/documents', { text: 'A letter' }, { prefer: 'wait=30, return=representation' })
  t.equal(response.status, 200)
  t.equal(response.redirected, true, 'the 303 is followed by GET')
  t.match(await response.json(), { text: 'A letter', state: 'ready' })
})

t.test('a DELETE without a body may be repeated under a key', async (t) => {
  const remove = () =>
    fetch(`${app.url}/documents/of-nobody`, { method: 'DELETE', headers: { 'idempotency-key': 'remove' } })
  const first = (await (await remove()).json()) as { id: string }
  const second = await remove()
  t.equal(second.status, 202)
  t.equal(second.headers.get('idempotent-replayed'), 'true')
  t.match(await second.json(), { id: first.id })
})
