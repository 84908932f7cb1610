import t from 'tap'
import { serve } from './support.ts'

t.jobs = 4

const service = await serve(t)
const ann = service.as('ann')
const { id } = await ann.submit('/idle', { text: 'x' })

const html = { accept: 'text/html' }
// Chromium sends this header when a user opens a link.
const browser = {
  accept: 'text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8',
}

for (const accept of [
  ...['*/*', 'application/json', 'application/*', 'application/json; q=0.1', 'image/png, application/json;q=0.5'],
  ...['application/json, text/plain, */*', 'text/html;q=0.5, application/json'],
  ...['', ' ', 'application/json; charset=utf-8', 'application/json;odata.metadata=minimal'],
  ...['application/json;a="x, y;z";b;q=0.5, text/html;q=0.4', 'text/html;level=1;q=0.1, */*'],
]) {
  t.test(`a request with Accept: ${accept} gets JSON`, async (t) => {
    const { status, headers, body } = await ann.get(`/jobs/${id}`, { accept })
    t.equal(status, 200)
    t.match(headers['content-type'], /^application\/json\b/)
    t.equal(body.id, id)
  })
}

t.test('a request without Accept gets JSON', async (t) => {
  const { status, headers } = await ann.get(`/jobs/${id}`)
  t.equal(status, 200)
  t.match(headers['content-type'], /^application\/json\b/)
})

for (const accept of [
  'application/xml',
  'text/plain',
  'image/*',
  'application/json;q=0',
  'application/json;odata.metadata=minimal;q=0',
  'audio/basic;q=0.2, text/css',
]) {
  t.test(`a request with Accept: ${accept} gets 406`, async (t) => {
    const { status, headers } = await ann.get(`/jobs/${id}`, { accept })
    t.equal(status, 406)
    t.match(headers['content-type'], /^application\/problem\+json\b/)
  })
}

t.test('a request with Accept: text/event-stream gets the event stream', async (t) => {
  const done = await ann.endedAs('succeeded')
  const { status, headers, text } = await ann.get(`/jobs/${done}`, { accept: 'text/event-stream' })
  t.equal(status, 200)
  t.match(headers['content-type'], /^text\/event-stream\b/)
  t.match(text, /^event: ?status$/m)
  t.match(text, done)
})

for (const [what, headers] of Object.entries({ 'text/html': html, 'the value that a browser sends': browser })) {
  t.test(`a request gets the HTML page if Accept is ${what}`, async (t) => {
    const page = await ann.get(`/jobs/${id}`, headers)
    t.equal(page.status, 200)
    t.match(page.headers['content-type'], /^text\/html\b/)
    t.match(page.text, /^<!doctype html>/i)
    t.match(page.text, 'queued')
  })
}

t.test('the page shows the progress of the job', async (t) => {
  const running = await ann.running()
  await service.steer(running, { do: 'progress', percent: 40, message: '4,000 of 10,000 rows' })
  await ann.untilJob(running, ({ percentComplete }) => percentComplete === 40)
  const { text } = await ann.get(`/jobs/${running}`, html)
  t.match(text, 'running')
  t.match(text, '40')
  t.match(text, '4,000 of 10,000 rows')
})

t.test('the page shows the error of a failed job', async (t) => {
  const failed = await ann.running()
  await service.steer(failed, { do: 'fail', code: 'no-luck', message: 'The mailbox is not there' })
  await ann.ended(failed)
  const { status, text } = await ann.get(`/jobs/${failed}`, html)
  t.equal(status, 200)
  t.match(text, 'failed')
  t.match(text, 'The mailbox is not there')
})

t.test('the page has a link to the result of the job', async (t) => {
  const submitted = await ann.submit('/notes', { text: 'x' })
  const { resourceLocation } = await ann.ended(submitted.id)
  const { text } = await ann.get(`/jobs/${submitted.id}`, html)
  const { self } = submitted.links
  const targets = [...text.matchAll(/href="([^"]*)"/g)].map(([, href]) => new URL(href as string, self).href)
  t.ok(targets.some((href) => href === submitted.links.result || href === resourceLocation))
})

t.test('the page escapes HTML in a message', async (t) => {
  const running = await ann.running()
  await service.steer(running, { do: 'progress', percent: 40, message: '<script>alert("x")</script>' })
  await ann.untilJob(running, ({ percentComplete }) => percentComplete === 40)
  const { text } = await ann.get(`/jobs/${running}`, html)
  t.notMatch(text, '<script>alert')
})

t.test('while the job is pending, the page reloads itself in browsers without JavaScript', async (t) => {
  const { text, headers } = await ann.get(`/jobs/${id}`, html)
  t.ok(headers.refresh || /<meta[^>]+http-equiv="?refresh"?[^>]*content="?\d+/i.test(text))
})

t.test('the page of a job that has ended does not reload itself', async (t) => {
  const { text, headers } = await ann.get(`/jobs/${await ann.endedAs('succeeded')}`, html)
  t.match(text, 'succeeded')
  t.notOk(headers.refresh)
  t.notMatch(text, /http-equiv="?refresh/i)
})

t.test('only the JSON representation has an ETag', async (t) => {
  t.ok((await ann.get(`/jobs/${id}`)).headers.etag)
  const { headers } = await ann.get(`/jobs/${id}`, html)
  t.equal(headers.etag, undefined)
})

t.test('a request for HTML gets the page even if If-None-Match has the ETag of the JSON representation', async (t) => {
  const { etag } = (await ann.get(`/jobs/${id}`)).headers
  const { status, text } = await ann.get(`/jobs/${id}`, { ...html, 'if-none-match': etag })
  t.equal(status, 200)
  t.match(text, 'queued')
})

t.test('every representation has Vary: Accept', async (t) => {
  const done = await ann.endedAs('succeeded')
  for (const accept of ['application/json', 'text/html', 'text/event-stream']) {
    const { headers } = await ann.get(`/jobs/${done}`, { accept })
    t.match(headers.vary, /\baccept\b/i, accept)
  }
})

t.test('another principal gets 404 instead of the page', async (t) => {
  const { status, text } = await service.as('bob').get(`/jobs/${id}`, html)
  t.equal(status, 404)
  t.notMatch(text, 'queued')
})

t.test('a request for the page of a job whose record has expired gets 410', async (t) => {
  const done = await ann.endedAs('canceled')
  await service.expire(done)
  t.equal((await ann.get(`/jobs/${done}`, html)).status, 410)
})

t.test('a request that gets 406 stores nothing', async (t) => {
  const { status } = await service.as('cleo').post('/notes', { text: 'x' }, { accept: 'image/png' })
  t.equal(status, 406)
  t.equal((await service.storedBy('cleo')).jobs, 0)
})
