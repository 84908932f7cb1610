import { once } from 'node:events'
import { connect } from 'node:net'
import { defineOperation } from 'accepted'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { WebSocket } from 'ws'
import { createNotifier } from '../../src/db/notifier.ts'
import { serve } from '../support/api.ts'
import { get, post } from '../support/client.ts'
import { until } from '../support/until.ts'

const note = defineOperation({
  name: 'note.create',
  route: { method: 'POST', url: '/notes' },
  input: Type.Object({ text: Type.String() }),
})

async function setUp(t: Test) {
  const api = await serve(t, {
    operations: { note },
    authenticate: (request) => request.headers['x-user']?.toString() ?? 'ann',
  })
  const hints = createNotifier(api.database)
  t.teardown(() => hints.flush())
  const add = async (): Promise<string> => (await post(`${api.url}/notes`, { text: 'x' })).body.id
  const set = async (id: string, assignments: string) => {
    const change = 'sequence = sequence + 1, updated_at = now()'
    await api.database.pool.query(`update accepted.job set ${change}, ${assignments} where id = $1`, [id])
    hints.notify('status', [id])
  }
  const counts = async () => {
    const { body } = await get(`${api.url}/metrics`)
    const value = (name: string) => Number(body.match(new RegExp(`^${name} (\\d+)$`, 'm'))[1])
    return { streams: value('accepted_event_streams'), jobs: value('accepted_watched_jobs') }
  }
  return { ...api, add, set, counts }
}

/** Reads a stream of events in the background. */
async function read(url: string, headers: Record<string, string> = {}) {
  const response = await fetch(url, { headers: { accept: 'text/event-stream', ...headers } })
  const stream = { response, text: '', isOver: false }
  const consume = async () => {
    try {
      for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) stream.text += chunk
    } finally {
      stream.isOver = true
    }
  }
  consume().catch(() => {})
  return stream
}

const running = `state = 'running', attempt = 1, started_at = now(), attempt_started_at = now()`
const succeeded = `state = 'succeeded', percent = 100, ended_at = now()`

t.test('progress is told in short, everything else as a status; the stream ends with the job', async (t) => {
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
  await until(() => stream.isOver)
  t.same(stream.text.match(/(?<=event: )\w+/g), ['status', 'status', 'progress', 'status', 'progress', 'status'])
  const [progress] = stream.text.match(/(?<=event: progress\nid: 3\ndata: ).*/) ?? []
  t.match(JSON.parse(progress as string), { percentComplete: 40, message: 'half', sequence: 3 })
})

t.test(
  'many watchers of a job: a client that does not read is told only the newest state, and holds up nobody',
  async (t) => {
    const { url, add, set } = await setUp(t)
    const id = await add()
    await set(id, running)
    const socket = connect(Number(new URL(url).port), '127.0.0.1')
    socket.write(`GET /jobs/${id}/events HTTP/1.1\r\nhost: localhost\r\n\r\n`)
    await once(socket, 'readable')
    const stream = await read(`${url}/jobs/${id}/events`)
    // More than the buffers of a socket hold.
    const rounds = 60
    for (let round = 1; round <= rounds; round++) {
      await set(id, `message = '${round} ${'x'.repeat(200_000)}'`)
      await until(() => stream.text.includes(`"message":"${round} `))
    }
    await set(id, `${succeeded}, message = 'done'`)
    await until(() => stream.isOver)
    let late = ''
    socket.setEncoding('utf8').on('data', (chunk) => {
      late += chunk
    })
    await until(() => late.includes('"status":"succeeded"'))
    const told = late.match(/^id: \d+$/gm) ?? []
    t.ok(told.length < rounds, `${told.length} events of ${rounds + 2}`)
    socket.destroy()
  },
)

t.test('whoever leaves is forgotten', async (t) => {
  const { url, add, counts } = await setUp(t)
  const id = await add()
  const leaving = new AbortController()
  const answers = ['', '/events'].map((path) =>
    fetch(`${url}/jobs/${id}${path}`, {
      headers: { prefer: 'wait=50', accept: path ? '*/*' : 'application/json' },
      signal: leaving.signal,
    }),
  )
  await answers[1]
  await until(async () => (await counts()).streams === 1)
  leaving.abort()
  await Promise.allSettled(answers)
  await until(async () => {
    const { streams, jobs } = await counts()
    return streams === 0 && jobs === 0
  })
  t.pass('nothing is watched any more')
})

t.test(
  'a process that stops sends everybody away: streams with a time to come back, polls with what is known',
  async (t) => {
    const { app, url, add } = await setUp(t)
    const id = await add()
    const ofJob = await read(`${url}/jobs/${id}/events`)
    const ofAll = await read(`${url}/events`)
    await until(() => [ofJob, ofAll].every(({ text }) => text.includes('event: status')))
    const socket = new WebSocket(`${url.replace('http', 'ws')}/events`, 'cloudevents.json')
    await once(socket, 'message')
    const socketClosed = once(socket, 'close')
    const poll = get(`${url}/jobs/${id}`, { prefer: 'wait=50', 'if-none-match': '"1"' })
    await until(async () => (await get(`${url}/metrics`)).body.includes('accepted_watched_jobs 1'))
    await app.close()
    for (const stream of [ofJob, ofAll]) {
      await until(() => stream.isOver)
      const [first = 0, last = 0] = stream.text.match(/(?<=retry: )\d+/g)?.map(Number) ?? []
      t.equal(first, 3000)
      t.ok(last >= 1000 && last <= 5000, `back after ${last} ms`)
    }
    t.equal((await socketClosed)[0], 1001)
    t.equal((await poll).status, 304)
  },
)

t.test(
  'who begins to follow all its jobs is told the newest and what changes, and not what has just changed',
  async (t) => {
    const { url, add, database } = await setUp(t)
    const id = await add()
    await database.pool.query(`
    insert into accepted.job (id, operation, principal, max_attempts, expires_at, updated_at)
    select gen_random_uuid(), operation, principal, max_attempts, expires_at, updated_at
    from accepted.job, generate_series(1, 5000)`)
    await database.pool.query("update accepted.job set updated_at = updated_at - interval '10 seconds'")
    const stream = await read(`${url}/events`)
    const socket = new WebSocket(`${url.replace('http', 'ws')}/events`, 'cloudevents.json')
    t.teardown(() => socket.terminate())
    const messages: string[] = []
    socket.on('message', (message) => messages.push(String(message)))
    const events = () => stream.text.match(/^data: .*/gm) ?? []
    const heard = () => [events().length, messages.length]
    await until(() => heard().every((count) => count === 100))
    /** Without a hint, so that it is told with whatever else is found. */
    const changeTwice = async (first: number) => {
      for (const sequence of [first, first + 1]) {
        await database.pool.query(`update accepted.job set sequence = $1, updated_at = now() where id = $2`, [
          sequence,
          id,
        ])
        const isTold = (text: string | undefined) => text?.includes(id) && text.includes(`"sequence":${sequence},`)
        await until(() => isTold(events().at(-1)) && isTold(messages.at(-1)))
      }
    }
    await changeTwice(2)
    t.same(heard(), [102, 102])
    socket.send(JSON.stringify({ subscribe: [id] }))
    await until(() => messages.length === 103)
    socket.send(JSON.stringify({ unsubscribe: [id] }))
    await changeTwice(4)
    t.same(heard(), [104, 105])
    // Very many at once, which neither of them takes in one turn.
    await database.pool.query('update accepted.job set sequence = sequence + 1, updated_at = now()')
    await until(() => heard().join() === '5105,5106')
    t.notOk(stream.isOver)
    t.equal(socket.readyState, WebSocket.OPEN)
  },
)

t.test('a page of another origin may not open a WebSocket', async (t) => {
  const { url } = await setUp(t)
  const open = async (origin?: string) => {
    const socket = new WebSocket(`${url.replace('http', 'ws')}/events`, 'cloudevents.json', origin ? { origin } : {})
    t.teardown(() => socket.terminate())
    const [what] = await Promise.race([
      once(socket, 'open').then(() => ['open']),
      once(socket, 'unexpected-response').then(([, response]) => [response.statusCode]),
    ])
    return what
  }
  t.equal(await open(), 'open')
  t.equal(await open(url), 'open')
  t.equal(await open('https://elsewhere.example.com'), 403)
  t.equal(await open('null'), 403)
})

t.test('a message that is not understood is answered with a code, and the connection goes on', async (t) => {
  const { url, add } = await setUp(t)
  const id = await add()
  const socket = new WebSocket(`${url.replace('http', 'ws')}/events`, 'cloudevents.json')
  t.teardown(() => socket.terminate())
  const frames: { type: string; subject?: string; data: { error: { code: string } } }[] = []
  socket.on('message', (data) => frames.push(JSON.parse(String(data))))
  await once(socket, 'open')
  const last = async (message: string) => {
    const before = frames.length
    socket.send(message)
    await until(() => frames.length > before)
    return frames.at(-1)
  }
  t.match(await last(JSON.stringify({ subscribe: [id.toUpperCase()] })), { type: 'job.queued', subject: id })
  const long = JSON.stringify({ subscribe: ['x'.repeat(256)] })
  for (const message of ['', '{', '[]', '{}', 'null', '{"subscribe":"x"}', '{"subscribe":[1]}', long]) {
    t.match(await last(message), { type: 'error', data: { error: { code: 'invalid-message' } } }, message)
  }
  t.match(await last('{"subscribe":["none"]}'), {
    type: 'error',
    subject: 'none',
    data: { error: { code: 'not-found' } },
  })
  t.match(await last(JSON.stringify({ subscribe: [id] })), { type: 'job.queued', subject: id })
  socket.send(Buffer.from('x'), { binary: true })
  t.equal((await once(socket, 'close'))[0], 1003)
})
