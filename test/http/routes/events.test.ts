import { once } from 'node:events'
import { get as httpGet, type IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { json } from 'node:stream/consumers'
import { defineOperation } from 'accepted'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { WebSocket } from 'ws'
import { createNotifier } from '../../../src/db/notifier.ts'
import { serve } from '../../support/api.ts'
import { get, metricsToken, post, readMetrics } from '../../support/client.ts'
import { until } from '../../support/until.ts'

const note = defineOperation({
  name: 'note.create',
  route: { method: 'POST', url: '/notes' },
  input: Type.Object({ text: Type.String() }),
})

async function setUp(t: Test) {
  const api = await serve(t, {
    operations: { note },
    metricsToken,
    authenticate: (request) => request.headers['x-user']?.toString() ?? 'ann',
  })
  const notifier = createNotifier(api.database)
  t.teardown(() => notifier.flush())
  const add = async (): Promise<string> => (await post(`${api.url}/notes`, { text: 'x' })).body.id
  const set = async (id: string, assignments: string) => {
    const change = 'sequence = sequence + 1, updated_at = now()'
    await api.database.pool.query(`update accepted.job set ${change}, ${assignments} where id = $1`, [id])
    notifier.notify('status', [id])
  }
  const counts = async () => {
    const body = await readMetrics(api.url)
    const value = (name: string) => Number(body.match(new RegExp(`^${name} (\\d+)$`, 'm'))?.[1])
    return { streams: value('accepted_event_streams'), jobs: value('accepted_watched_jobs') }
  }
  return { ...api, add, set, counts }
}

/** Opens an event stream and reads it in the background. */
async function read(url: string, headers: Record<string, string> = {}) {
  const response = await fetch(url, { headers: { accept: 'text/event-stream', ...headers } })
  const stream = { response, text: '', isEnded: false }
  const consume = async () => {
    try {
      for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) stream.text += chunk
    } finally {
      stream.isEnded = true
    }
  }
  consume().catch(() => {})
  return stream
}

const running = `status = 'running', attempt = 1, started_at = now(), attempt_started_at = now()`
const succeeded = `status = 'succeeded', percent = 100, ended_at = now()`

t.test(
  'a stream sends progress events for progress and status events for other changes, and ends when the job ends',
  async (t) => {
    const { url, add, set } = await setUp(t)
    const id = await add()
    const stream = await read(`${url}/jobs/${id}/events`)
    await until(() => stream.text.includes('id: 1\n'))
    for (const [sequence, assignments] of [
      [2, running],
      [3, `percent = 40, message = 'half'`],
      [4, 'cancel_requested = true'],
      [5, 'percent = 60'],
      [6, succeeded],
    ] as const) {
      await set(id, assignments)
      await until(() => stream.text.includes(`id: ${sequence}\n`))
    }
    await until(() => stream.isEnded)
    t.same(stream.text.match(/(?<=event: )\w+/g), ['status', 'status', 'progress', 'status', 'progress', 'status'])
    const [progress] = stream.text.match(/(?<=event: progress\nid: 3\ndata: ).*/) ?? []
    t.match(JSON.parse(progress as string), { percentComplete: 40, message: 'half', sequence: 3 })
  },
)

t.test('a client that stops reading for a while skips older statuses, and does not delay other clients', async (t) => {
  const { url, add, set } = await setUp(t)
  const id = await add()
  await set(id, running)
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  socket.write(`GET /jobs/${id}/events HTTP/1.1\r\nhost: localhost\r\n\r\n`)
  await once(socket, 'readable')
  const stream = await read(`${url}/jobs/${id}/events`)
  // Together, these messages are larger than the socket buffers.
  const rounds = 60
  for (let round = 1; round <= rounds; round++) {
    await set(id, `message = '${round} ${'x'.repeat(200_000)}'`)
    await until(() => stream.text.includes(`"message":"${round} `))
  }
  await set(id, `${succeeded}, message = 'done'`)
  await until(() => stream.isEnded)
  let late = ''
  socket.setEncoding('utf8').on('data', (chunk) => {
    late += chunk
  })
  await until(() => late.includes('"status":"succeeded"'))
  const ids = late.match(/^id: \d+$/gm) ?? []
  t.ok(ids.length < rounds, `received ${ids.length} of ${rounds + 2} events`)
  socket.destroy()
})

t.test('when a client disconnects, the API closes its stream and stops watching its job', async (t) => {
  const { url, add, counts } = await setUp(t)
  const id = await add()
  const disconnect = new AbortController()
  const responses = ['', '/events'].map((path) =>
    fetch(`${url}/jobs/${id}${path}`, {
      headers: { prefer: 'wait=50', accept: path ? '*/*' : 'application/json' },
      signal: disconnect.signal,
    }),
  )
  await responses[1]
  await until(async () => (await counts()).streams === 1)
  disconnect.abort()
  await Promise.allSettled(responses)
  await until(async () => {
    const { streams, jobs } = await counts()
    return streams === 0 && jobs === 0
  })
  t.pass('nothing is watched anymore')
})

t.test(
  'a process that stops ends its streams with a retry time, closes its WebSockets and answers its long polls',
  async (t) => {
    const { app, url, add } = await setUp(t)
    const id = await add()
    const jobStream = await read(`${url}/jobs/${id}/events`)
    const allStream = await read(`${url}/events`)
    await until(() => [jobStream, allStream].every(({ text }) => text.includes('event: status')))
    const socket = new WebSocket(`${url.replace('http', 'ws')}/events`, 'cloudevents.json')
    await once(socket, 'message')
    const socketClosed = once(socket, 'close')
    const poll = get(`${url}/jobs/${id}`, { prefer: 'wait=50', 'if-none-match': '"1"' })
    await until(async () => (await readMetrics(url)).includes('accepted_watched_jobs 1'))
    await app.close()
    for (const stream of [jobStream, allStream]) {
      await until(() => stream.isEnded)
      const [first = 0, last = 0] = stream.text.match(/(?<=retry: )\d+/g)?.map(Number) ?? []
      t.equal(first, 3000)
      t.ok(last >= 1000 && last <= 5000, `the client reconnects after ${last} ms`)
    }
    t.equal((await socketClosed)[0], 1001)
    t.equal((await poll).status, 304)
  },
)

t.test(
  'a client that follows all its jobs receives the newest jobs and all later changes, but no older changes',
  async (t) => {
    const { url, add, database } = await setUp(t)
    const id = await add()
    await database.pool.query(`
    insert into accepted.job (id, operation, principal, max_attempts, expires_at, updated_at)
    select accepted.uuid7(), operation, principal, max_attempts, expires_at, updated_at
    from accepted.job, generate_series(1, 5000)`)
    await database.pool.query("update accepted.job set updated_at = updated_at - interval '10 seconds'")
    const stream = await read(`${url}/events`)
    const socket = new WebSocket(`${url.replace('http', 'ws')}/events`, 'cloudevents.json')
    t.teardown(() => socket.terminate())
    const messages: string[] = []
    socket.on('message', (message) => messages.push(String(message)))
    const events = () => stream.text.match(/^data: .*/gm) ?? []
    const receivedCounts = () => [events().length, messages.length]
    await until(() => receivedCounts().every((count) => count === 100))
    /** Changes the job twice without a notification. A poll finds each change, with all other recent changes. */
    const changeTwice = async (first: number) => {
      for (const sequence of [first, first + 1]) {
        await database.pool.query(`update accepted.job set sequence = $1, updated_at = now() where id = $2`, [
          sequence,
          id,
        ])
        const isReceived = (text: string | undefined) => text?.includes(id) && text.includes(`"sequence":${sequence},`)
        await until(() => isReceived(events().at(-1)) && isReceived(messages.at(-1)))
      }
    }
    await changeTwice(2)
    t.same(receivedCounts(), [102, 102])
    socket.send(JSON.stringify({ subscribe: [id] }))
    await until(() => messages.length === 103)
    socket.send(JSON.stringify({ unsubscribe: [id] }))
    await changeTwice(4)
    t.same(receivedCounts(), [104, 105])
    // These are more changes than the API sends to a client in one turn of the event loop.
    await database.pool.query('update accepted.job set sequence = sequence + 1, updated_at = now()')
    await until(() => receivedCounts().join() === '5105,5106')
    t.notOk(stream.isEnded)
    t.equal(socket.readyState, WebSocket.OPEN)
  },
)

t.test('a web page of another origin cannot open a WebSocket', async (t) => {
  const { url } = await setUp(t)
  const open = async (origin?: string) => {
    const socket = new WebSocket(`${url.replace('http', 'ws')}/events`, 'cloudevents.json', origin ? { origin } : {})
    t.teardown(() => socket.terminate())
    const [outcome] = await Promise.race([
      once(socket, 'open').then(() => ['open']),
      once(socket, 'unexpected-response').then(([, response]) => [response.statusCode]),
    ])
    return outcome
  }
  t.equal(await open(), 'open')
  t.equal(await open(url), 'open')
  t.equal(await open('https://elsewhere.example.com'), 403)
  t.equal(await open('null'), 403)
})

t.test('an invalid message is answered with an error code, and the connection stays open', async (t) => {
  const { url, add } = await setUp(t)
  const id = await add()
  const socket = new WebSocket(`${url.replace('http', 'ws')}/events`, 'cloudevents.json')
  t.teardown(() => socket.terminate())
  const frames: { type: string; subject?: string; data: { error: { code: string } } }[] = []
  socket.on('message', (data) => frames.push(JSON.parse(String(data))))
  await once(socket, 'open')
  const answerTo = async (message: string) => {
    const before = frames.length
    socket.send(message)
    await until(() => frames.length > before)
    return frames.at(-1)
  }
  t.match(await answerTo(JSON.stringify({ subscribe: [id.toUpperCase()] })), { type: 'job.queued', subject: id })
  const long = JSON.stringify({ subscribe: ['x'.repeat(256)] })
  for (const message of ['', '{', '[]', '{}', 'null', '{"subscribe":"x"}', '{"subscribe":[1]}', long]) {
    t.match(await answerTo(message), { type: 'error', data: { error: { code: 'invalid-message' } } }, message)
  }
  t.match(await answerTo('{"subscribe":["none"]}'), {
    type: 'error',
    subject: 'none',
    data: { error: { code: 'not-found' } },
  })
  t.match(await answerTo(JSON.stringify({ subscribe: [id] })), { type: 'job.queued', subject: id })
  socket.send(Buffer.from('x'), { binary: true })
  t.equal((await once(socket, 'close'))[0], 1003)
})

t.test('a malformed opening handshake is answered with problem details', async (t) => {
  const { url } = await setUp(t)
  const upgrade = { Upgrade: 'websocket', Connection: 'Upgrade', 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==' }
  for (const headers of [
    { ...upgrade, 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Protocol': ',,' },
    { ...upgrade, 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'x' },
    { ...upgrade, 'Sec-WebSocket-Version': '1' },
  ]) {
    const [response] = (await once(httpGet(`${url}/events`, { headers }), 'response')) as [IncomingMessage]
    t.equal(response.statusCode, 400)
    t.equal(response.headers['content-type'], 'application/problem+json; charset=utf-8')
    t.equal(response.headers['sec-websocket-version'], '13, 8')
    t.match(await json(response), { error: { code: 'bad-request', message: /Sec-WebSocket/ } })
  }
})

t.test('a socket that sends thousands of pings or fragments is closed, and one that sends some is not', async (t) => {
  const { url } = await setUp(t)
  const open = async () => {
    const socket = new WebSocket(`${url.replace('http', 'ws')}/events`, 'cloudevents.json')
    t.teardown(() => socket.terminate())
    await once(socket, 'open')
    return socket
  }
  const pinging = await open()
  let pongs = 0
  pinging.on('pong', () => {
    pongs += 1
  })
  for (let count = 0; count < 100; count++) pinging.ping()
  await until(() => pongs === 100)
  const closed = once(pinging, 'close')
  for (let count = 0; count < 5_000; count++) pinging.ping()
  t.equal((await closed)[0], 1008)
  t.ok(pongs < 2_000, `${pongs} pings were answered`)
  const fragmenting = await open()
  const refused = once(fragmenting, 'message')
  for (let count = 0; count < 100; count++) fragmenting.send(' ', { fin: count === 99 })
  t.match(JSON.parse(String((await refused)[0])), { data: { error: { code: 'invalid-message' } } })
  const ended = once(fragmenting, 'close')
  for (let count = 0; count < 1_000; count++) fragmenting.send('', { fin: false })
  t.equal((await ended)[0], 1008)
})

t.test('an invalid frame closes the connection with its reason, and the log has no error', async (t) => {
  const { url, app } = await setUp(t)
  const logged: unknown[] = []
  // Fastify's own logger is a silent one. The loggers of requests are made by `child`.
  app.log.child = () => Object.assign(Object.create(app.log), { error: (...line: unknown[]) => logged.push(line) })
  const socket = new WebSocket(`${url.replace('http', 'ws')}/events`, 'cloudevents.json')
  t.teardown(() => socket.terminate())
  await once(socket, 'open')
  socket.send(Buffer.from([0xff]), { binary: false })
  t.equal((await once(socket, 'close'))[0], 1007)
  t.same(logged, [])
})
