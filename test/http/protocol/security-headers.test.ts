import { defineOperation } from 'accepted'
import t from 'tap'
import Type from 'typebox'
import { serve } from '../../support/api.ts'
import { post } from '../../support/client.ts'

const note = defineOperation({
  name: 'note.create',
  route: { method: 'POST', url: '/notes' },
  input: Type.Object({ text: Type.String() }),
})

const { url } = await serve(t, { operations: { note } })
const { links } = (await post(`${url}/notes`, { text: 'a' })).body

/** Returns the sources of each directive of a Content-Security-Policy. */
const directivesOf = (headers: Headers) =>
  Object.fromEntries(
    (headers.get('content-security-policy') ?? '').split('; ').map((directive) => directive.split(/ (.*)/).slice(0, 2)),
  )

t.test('every page forbids inline code, embedding, sniffing and referrers', async (t) => {
  for (const page of [
    links.self,
    `${url}/docs`,
    `${url}/docs/static/oauth2-redirect.html`,
    `${url}/docs/problems/forbidden`,
    `${url}/docs/problems`,
  ]) {
    const { headers, status } = await fetch(page, { headers: { accept: 'text/html' } })
    t.equal(status, 200)
    t.match(headers.get('content-type'), 'text/html')
    const directives = directivesOf(headers)
    t.match(directives, {
      'default-src': "'none'",
      'base-uri': "'none'",
      // The page of a job has buttons.
      'form-action': page === links.self ? "'self'" : "'none'",
      'frame-ancestors': "'none'",
    })
    for (const sources of Object.values(directives)) t.notMatch(sources, /unsafe|\*|https?:/, page)
    t.match(Object.fromEntries(headers), {
      'cross-origin-opener-policy': 'same-origin',
      'cross-origin-resource-policy': 'same-origin',
      'origin-agent-cluster': '?1',
      // With no-referrer, a form would not say from which origin it comes.
      'referrer-policy': page === links.self ? 'same-origin' : 'no-referrer',
      'x-content-type-options': 'nosniff',
      'x-dns-prefetch-control': 'off',
      'x-download-options': 'noopen',
      'x-frame-options': 'DENY',
      'x-permitted-cross-domain-policies': 'none',
      'x-xss-protection': '0',
    })
    t.equal(headers.get('access-control-allow-origin'), null)
  }
})

t.test('an answer that is no page runs, loads and embeds nothing, whatever its status', async (t) => {
  for (const [path, init, expected] of [
    ['/notes', { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"text":"b"}' }, 202],
    ['/notes', { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{' }, 400],
    ['/notes', { method: 'PUT' }, 405],
    ['/jobs', {}, 200],
    ['/jobs/none', {}, 404],
    ['/none', {}, 404],
    ['/openapi.json', {}, 200],
    ['/health/live', {}, 200],
    ['/metrics', {}, 200],
    ['/docs/job.js', {}, 200],
    [new URL(links.events).pathname, { method: 'HEAD' }, 200],
  ] as [string, RequestInit, number][]) {
    const { headers, status } = await fetch(url + path, init)
    t.equal(status, expected, path)
    t.match(directivesOf(headers), { 'default-src': "'none'", 'frame-ancestors': "'none'" }, path)
    t.equal(headers.get('x-content-type-options'), 'nosniff')
    t.equal(headers.get('referrer-policy'), 'no-referrer')
  }
})

t.test('browsers call an API with an https URL over https only', async (t) => {
  t.equal((await fetch(`${url}/jobs`)).headers.get('strict-transport-security'), null)
  const publicApi = await serve(t, { operations: { note }, publicUrl: 'https://api.example.com' })
  const { headers } = await fetch(`${publicApi.url}/jobs`)
  t.equal(headers.get('strict-transport-security'), 'max-age=31536000')
})

t.test('the stream of a job has the headers too', async (t) => {
  const { headers, body } = await fetch(links.events, { headers: { accept: 'text/event-stream' } })
  t.equal(headers.get('x-content-type-options'), 'nosniff')
  await body?.cancel()
})

t.test('the routes of the host app have the headers that the app gives them', async (t) => {
  const { url: hostUrl } = await serve(t, { operations: { note } }, (host) => {
    host.get('/own', async (_request, reply) => reply.type('text/html').send('<style>p{}</style>'))
  })
  const { headers } = await fetch(`${hostUrl}/own`)
  for (const name of ['content-security-policy', 'x-content-type-options', 'referrer-policy', 'x-frame-options']) {
    t.equal(headers.get(name), null, name)
  }
})
