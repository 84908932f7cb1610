import { once } from 'node:events'
import { defineOperation } from 'accepted'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { WebSocket } from 'ws'
import { serve } from '../../support/api.ts'
import { get, post } from '../../support/client.ts'
import { until } from '../../support/until.ts'

const note = defineOperation({
  name: 'note.create',
  route: { method: 'POST', url: '/notes' },
  input: Type.Object({ text: Type.String() }),
})

const limit = 3
const { url } = await serve(t, {
  operations: { note },
  openLimit: limit,
  authenticate: (request) => request.headers['x-user']?.toString() ?? 'ann',
})

/** When a response is garbage, fetch closes its connection. */
const openResponses = new Set<Response>()

/** Opens a stream. Returns a function that closes it. */
async function openStream(t: Test, path: string, user: string): Promise<() => void> {
  const controller = new AbortController()
  t.teardown(() => controller.abort())
  const headers = { accept: 'text/event-stream', 'x-user': user }
  const response = await fetch(url + path, { headers, signal: controller.signal })
  t.equal(response.status, 200)
  openResponses.add(response)
  return () => controller.abort()
}

/** Tries to open a WebSocket. Returns the status of the answer to the handshake, and its headers. */
async function openSocket(t: Test, user: string) {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/events`, { headers: { 'x-user': user } })
  socket.on('error', () => {})
  t.teardown(() => socket.terminate())
  const [status, headers] = await Promise.race([
    once(socket, 'open').then(() => [101, {}]),
    once(socket, 'unexpected-response').then(([, response]) => [response.statusCode, response.headers]),
  ])
  return { status, headers, socket }
}

t.test('streams, WebSockets and waits of a principal are limited together', async (t) => {
  const { links } = (await post(`${url}/notes`, { text: 'a' }, { 'x-user': 'bob' })).body
  const close = await openStream(t, new URL(links.events).pathname, 'bob')
  await openStream(t, '/events', 'bob')
  const { status, socket } = await openSocket(t, 'bob')
  t.equal(status, 101)

  const wait = { 'x-user': 'bob', prefer: 'wait=50' }
  for (const [link, headers] of [
    [links.events, { 'x-user': 'bob' }],
    [links.self, { 'x-user': 'bob', accept: 'text/event-stream' }],
    [`${url}/events`, { 'x-user': 'bob' }],
    [links.self, wait],
    [links.result, wait],
  ] as [string, Record<string, string>][]) {
    const answer = await get(link, headers)
    t.match(answer, { status: 429, body: { error: { code: 'too-many-requests' } } })
    t.match(Object.fromEntries(answer.headers), {
      'retry-after': '5',
      ratelimit: '"open";r=0;t=5',
      'ratelimit-policy': '"open";q=3;qu="concurrent-requests"',
    })
  }
  const refused = await openSocket(t, 'bob')
  t.match(refused, { status: 429, headers: { 'retry-after': '5', ratelimit: '"open";r=0;t=5' } })
  t.equal((await get(links.self, { 'x-user': 'bob' })).status, 200, 'a read that does not wait is answered')
  const submitted = await post(`${url}/notes`, { text: 'b' }, { ...wait, prefer: 'wait=50, return=minimal' })
  t.equal(submitted.status, 202, 'a job that is stored is answered at once')
  t.equal(submitted.headers.get('preference-applied'), 'return=minimal')
  t.equal((await openSocket(t, 'cid')).status, 101, 'another principal has its own limit')

  close()
  await until(async () => (await openSocket(t, 'bob')).status === 101)
  socket.terminate()
  // The wait that takes the place of the socket gives it back when the job ends.
  const waiting = until(async () => {
    const answer = await get(links.self, wait)
    return answer.status !== 429 && answer
  })
  await until(async () => (await get(links.self, { ...wait, prefer: 'wait=1' })).status === 429)
  await post(links.cancel, {}, { 'x-user': 'bob' })
  t.match((await waiting).body, { status: 'canceled' })
  await openStream(t, '/events', 'bob')
})

t.test('thousands of waits of one principal do not delay other requests', async (t) => {
  const { links } = (await post(`${url}/notes`, { text: 'a' }, { 'x-user': 'dan' })).body
  const answers: ReturnType<typeof get>[] = []
  let refused = 0
  // At most 200 at once: a busy process closes connections whose headers it cannot read in time.
  for (let sent = 200; sent <= 2_000; sent += 200) {
    const waits = Array.from({ length: 200 }, async () => {
      const answer = await get(links.self, { 'x-user': 'dan', prefer: 'wait=50' })
      if (answer.status === 429) refused++
      return answer
    })
    answers.push(...waits)
    await until(() => refused >= sent - limit)
  }
  t.equal((await post(`${url}/notes`, { text: 'a' }, { 'x-user': 'eva' })).status, 202)
  t.equal((await post(links.cancel, {}, { 'x-user': 'dan' })).status, 200)
  const statuses = (await Promise.all(answers)).map(({ status }) => status)
  t.ok(statuses.filter((status) => status === 429).length > 0)
  t.same([...new Set(statuses)].sort(), [200, 429])
})
