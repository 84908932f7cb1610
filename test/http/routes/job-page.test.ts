import { request as sendRequest } from 'node:http'
import { defineOperation } from 'accepted'
import t from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import { createKey, type NewApiKey } from '../../../src/jobs/api-key.ts'
import { problems } from '../../../src/problems.ts'
import { serve } from '../../support/api.ts'
import { get, post } from '../../support/client.ts'
import { until } from '../../support/until.ts'

const note = defineOperation({
  ...{ name: 'note.create', input: Type.Object({ text: Type.String() }) },
  route: { method: 'POST', url: '/notes' },
})

/** The header Accept of Chromium when it opens a page or sends a form. */
const browser = { accept: 'text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8' }

const { url, database } = await serve(t, { operations: { note } })
const query = async (text: string, values: unknown[] = []) => (await database.pool.query(text, values)).rows
const submit = async (): Promise<string> => (await post(`${url}/notes`, { text: 'x' })).body.id
const read = async (path: string, headers: Record<string, string> = {}) => get(url + path, { ...browser, ...headers })

/** Sends a form as a browser does. Unlike fetch, this request can have any header. */
const sendForm = (path: string, headers: Record<string, string> = {}) =>
  new Promise<{ status: number | undefined; location: string | undefined; type: string | undefined; body: string }>(
    (resolve, reject) => {
      const request = sendRequest(url + path, {
        method: 'POST',
        headers: { ...browser, 'content-type': 'application/x-www-form-urlencoded', 'content-length': 0, ...headers },
      })
      request.on('error', reject)
      request.on('response', async (response) => {
        const body = (await response.setEncoding('utf8').toArray()).join('')
        const { location, 'content-type': type } = response.headers
        resolve({ status: response.statusCode, location, type, body })
      })
      request.end()
    },
  )

/** The URLs to which the visible forms of a page lead. */
const formsOf = (page: string) =>
  Array.from(page.matchAll(/<form [^>]*action="([^"]+)"(?! hidden)/g), ([, action]) => `/jobs/${action}`)

const sameOrigin = { 'sec-fetch-site': 'same-origin' }

/** Writes the status of a job as a worker would. */
async function change(id: string, columns: string): Promise<void> {
  await query('alter table accepted.job disable trigger user')
  await query(`update accepted.job set ${columns} where id = $1`, [id])
  await query('alter table accepted.job enable trigger user')
}

t.test('the buttons of the page cancel a job and run it again, and lead back to a page', async (t) => {
  const id = await submit()
  const page = await read(`/jobs/${id}`)
  t.match(page.headers.get('content-security-policy'), "form-action 'self'")
  t.same(formsOf(page.body), [`/jobs/${id}/cancel`])
  t.match(await sendForm(`/jobs/${id}/cancel`, sameOrigin), { status: 303, location: `../${id}`, body: '' })
  const canceled = await read(`/jobs/${id}`)
  t.match(canceled.body, /data-status="canceled"/)
  const [retry = '', ...others] = formsOf(canceled.body)
  t.match(retry, `/jobs/${id}/retry?key=`)
  t.same(others, [])

  const first = await sendForm(retry, sameOrigin)
  t.equal(first.status, 303)
  t.same(await sendForm(retry, sameOrigin), first, 'two clicks make one retry')
  const next = new URL(`${first.location}`, `${url}/jobs/${id}/retry`)
  t.match(await get(next.href), { status: 200, body: { retryOf: id } })
  t.match((await get(next.href, browser)).body, `<dd id="retry-of"><a href="${id}">${id}</a></dd>`)
  t.equal((await query('select from accepted.job where retry_of = $1', [id])).length, 1)

  const refused = await sendForm(`/jobs/${id}/cancel`, sameOrigin)
  t.match(refused, { status: 303 }, 'canceled already')
  await change(id, `status = 'succeeded'`)
  const late = await sendForm(`/jobs/${id}/cancel`, sameOrigin)
  t.match(late, { status: 409, type: /^text\/html/, body: /cannot be canceled/ })
})

t.test('a form of another origin is refused, and clients that want JSON get JSON', async (t) => {
  const id = await submit()
  const host = new URL(url).host
  for (const [headers, status] of [
    [{}, 403],
    [{ 'sec-fetch-site': 'cross-site' }, 403],
    [{ 'sec-fetch-site': 'same-site', origin: url }, 403],
    [{ origin: 'https://evil.example' }, 403],
    [{ origin: 'null' }, 403],
    [{ origin: `http://${host}` }, 303],
  ] as const) {
    const answer = await sendForm(`/jobs/${id}/cancel`, headers)
    t.equal(answer.status, status, JSON.stringify(headers))
    if (status === 403) t.match(answer, { type: /^text\/html/, body: /must be sent from a page of the API/ })
  }
  const other = await submit()
  for (const accept of ['*/*', 'application/json', 'application/json, text/html']) {
    const { status, headers, body } = await post(`${url}/jobs/${other}/cancel`, {}, { accept })
    t.match({ status, body, type: headers.get('content-type') }, { status: 200, body: { id: other }, type: /json/ })
  }
})

t.test('the page of a failed job shows its error, and not its last message', async (t) => {
  const id = await submit()
  const message = 'Charging the card'
  await change(id, `message = '${message}', percent = 50`)
  t.match((await read(`/jobs/${id}`)).body, `<p id="message">${message}</p>`)
  await change(
    id,
    `status = 'failed', ended_at = now(), error = '{"code": "x", "message": "Declined", "public": true}'`,
  )
  const { body } = await read(`/jobs/${id}`)
  t.match(body, 'Declined (x)')
  t.notMatch(body, message)
})

t.test('a change says why a job waits for its retry, and until when', async (t) => {
  const id = await submit()
  const stream = await fetch(`${url}/jobs/${id}/events`, { headers: { accept: 'text/event-stream' } })
  const all = await fetch(`${url}/events`, { headers: { accept: 'text/event-stream' } })
  const waiting = get(`${url}/jobs/${id}`, { prefer: 'wait=50', 'if-none-match': '"1"' })
  await query(`insert into accepted.attempt (job_id, attempt, error) values ($1, 1, $2)`, [
    id,
    { code: 'smtp-refused', message: 'The mailbox is full', public: true, details: ['x'] },
  ])
  await query(`update accepted_queue.job set start_after = '2039-01-02 03:04:05Z' where id = $1`, [id])
  await change(id, 'attempt = 1, sequence = 2, updated_at = now()')
  const expected = {
    ...{ status: 'queued', attempt: 1, nextAttemptAt: '2039-01-02T03:04:05.000Z' },
    lastError: { code: 'smtp-refused', message: 'The mailbox is full' },
  }
  t.match(await waiting, { status: 200, body: expected })
  for (const { body } of [stream, all]) {
    let text = ''
    for await (const chunk of (body as ReadableStream<Uint8Array>).pipeThrough(new TextDecoderStream())) {
      text += chunk
      if (text.includes('"attempt":1')) break
    }
    const [, event = '{}'] = /data: (.*"attempt":1.*)/.exec(text) ?? []
    t.match(JSON.parse(event), { id, ...expected })
  }
})

t.test('a queued page says why the job waits; it and the monitor hide the text of the error', async (t) => {
  const id = await submit()
  await query(`update accepted_queue.job set start_after = '2039-01-02 03:04:05Z' where data ->> 'job' = $1`, [id])
  await change(id, 'attempt = 1')
  await query(`insert into accepted.attempt (job_id, attempt, error) values ($1, 1, $2)`, [
    id,
    { code: 'smtp-refused', message: 'The <mailbox> is full', public: true, details: ['x'] },
  ])
  const next = 'The next attempt starts at 2039-01-02 03:04:05 UTC at the earliest.'
  const shown = `Attempt 1 of 4 failed: The &lt;mailbox&gt; is full (smtp-refused). ${next}`
  t.match((await read(`/jobs/${id}`)).body, `<p id="waiting">${shown}</p>`)
  t.same((await get(`${url}/jobs/${id}`)).body.lastError, { code: 'smtp-refused', message: 'The <mailbox> is full' })
  await query(`update accepted.attempt set error = $2 where job_id = $1`, [
    id,
    { code: 'handler-error', message: 'connect to 10.0.0.7' },
  ])
  const { body } = await get(`${url}/jobs/${id}`)
  t.same(body.lastError, { code: 'handler-error', message: 'The attempt failed' })
  t.notMatch((await read(`/jobs/${id}`)).body, '10.0.0.7')
  await change(id, `status = 'running'`)
  t.equal((await get(`${url}/jobs/${id}`)).body.lastError, undefined)
  t.match((await read(`/jobs/${id}`)).body, '<p id="waiting" hidden></p>')
})

t.test('the page shows durations, and the jobs of a batch', async (t) => {
  const items = Array.from({ length: 22 }, () => ({ operation: 'note.create', input: { text: 'x' } }))
  const { id } = (await post(`${url}/batches`, { items })).body
  const page = (await read(`/jobs/${id}`)).body
  t.match(page, '0 of 22 ended: 0 succeeded, 0 failed, 0 canceled')
  t.match(page, 'The newest 20 jobs in it')
  const links = Array.from(page.matchAll(/<li data-status="queued"><a href="([^"]+)">/g), ([, href]: string[]) => href)
  t.equal(links.length, 20)
  const child = (await read(`/jobs/${links[0]}`)).body
  t.match(child, `<dd id="parent"><a href="${id}">${id}</a></dd>`)
  t.notMatch(page, 'id="retry"', 'a batch cannot be retried')
  await change(
    links[0] as string,
    `status = 'succeeded', started_at = created_at + interval '65 seconds', ended_at = created_at + interval '3 hours'`,
  )
  const ended = (await read(`/jobs/${links[0]}`)).body
  t.match(ended, '<dd id="waited">1 min 5 s</dd>')
  t.match(ended, '<dd id="took">2 h 58 min</dd>')
})

t.test('a browser gets a page for what is not there, and other clients get problem details', async (t) => {
  const expired = await submit()
  await query('select accepted.cancel($1)', [expired])
  await change(expired, 'expires_at = now()')
  for (const [path, status, text] of [
    [`/jobs/${uuid7()}`, 404, 'There is no job with this id'],
    ['/jobs/nonsense', 404, 'There is no job with this id'],
    [`/jobs/${uuid7()}/result`, 404, 'There is no job with this id'],
    [`/jobs/${uuid7()}/events`, 404, 'There is no job with this id'],
    [`/jobs/${expired}`, 410, 'The record of this job has expired'],
    ['/jobs/%00', 404, 'Not found'],
    ['/jobs?status=none', 400, '/status'],
    ['/docs/problems/none', 404, 'There is no problem code'],
    ['/none/<script>alert(1)</script>', 404, 'There is no route GET'],
    ['/notes', 405, 'does not support GET'],
  ] as const) {
    const page = await read(path)
    t.equal(page.status, status, path)
    t.match(page.headers.get('content-type'), /^text\/html/, path)
    t.match(page.headers.get('content-security-policy'), "default-src 'none'; style-src 'self'; base-uri 'none'", path)
    t.match(page.headers.get('vary'), /accept/i, path)
    t.match(page.body, text, path)
    t.notMatch(page.body, '<script>', path)
    const [, styles = ''] = page.body.match(/<link rel="stylesheet" href="([^"]+)"/) ?? []
    t.equal((await get(new URL(styles, url + path).href)).status, 200, `${path}: ${styles}`)
    for (const accept of ['*/*', 'application/json', 'application/problem+json, text/html;q=0.9']) {
      const { status: same, headers } = await get(url + path, { accept })
      if (same === 406) continue
      t.equal(same, status, path)
      t.match(headers.get('content-type'), /^application\/problem\+json/, `${path}, ${accept}`)
    }
  }
  t.match((await post(`${url}/notes`, {}, browser)).body.error, { code: /./ }, 'no page for a program that posts')
})

t.test('the index of the problem types leads to each of them', async (t) => {
  const { body } = await get(`${url}/docs/problems`)
  const codes = Array.from(body.matchAll(/<a href="problems\/([^"]+)">/g), ([, code]: string[]) => code)
  t.same(codes.toSorted(), Object.keys(problems).toSorted())
  const { body: page } = await get(`${url}/docs/problems/not-found`)
  t.match(page, '<a href="../problems">All problem types</a>')
})

// From here on there are keys.
t.test('only callers who may cancel or retry get the buttons', async (t) => {
  const addKey = async (key: Partial<NewApiKey>) => {
    const made = await database.kysely
      .transaction()
      .execute((trx) => createKey(trx as never, { name: 'k', principal: 'ann', ...key } as NewApiKey))
    return { authorization: `Bearer ${made.key}` }
  }
  const all = await addKey({})
  // The API remembers for a second that there were no keys.
  await until(async () => (await get(`${url}/jobs`)).status === 401)
  const { id } = (await post(`${url}/notes`, { text: 'x' }, all)).body
  t.same(formsOf((await read(`/jobs/${id}`, all)).body), [`/jobs/${id}/cancel`])

  const reader = await addKey({ scopes: ['read'] })
  const page = await read(`/jobs/${id}`, reader)
  t.notMatch(page.body, '<form')
  t.match(page.headers.get('content-security-policy'), "form-action 'none'")
  t.match(await sendForm(`/jobs/${id}/cancel`, { ...sameOrigin, ...reader }), { status: 403, type: /html/ })

  const { page: link } = (await post(`${url}/jobs/${id}/links`, {}, all)).body
  const { pathname, search } = new URL(link)
  const linked = await read(pathname + search)
  t.equal(linked.status, 200)
  t.notMatch(linked.body, '<form')
  t.match(await sendForm(`${pathname}/cancel${search}`, sameOrigin), { status: 401, type: /html/ })

  const submitter = await addKey({ scopes: ['submit', 'read'] })
  await post(`${url}/jobs/${id}/cancel`, {}, all)
  t.match(formsOf((await read(`/jobs/${id}`, submitter)).body), [`/jobs/${id}/retry?key=`])
  const canceler = await addKey({ scopes: ['cancel', 'read'] })
  t.same(formsOf((await read(`/jobs/${id}`, canceler)).body), [])
  const stranger = await addKey({ principal: 'bob' })
  t.match(await read(`/jobs/${id}`, stranger), { status: 404, body: /There is no job with this id/ })
})
