import { once } from 'node:events'
import type { Socket } from 'node:net'
import { CloudEvent } from 'cloudevents'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import { serve as serveLocally } from '../support/api.ts'
import { until } from '../support/until.ts'
import * as operations from './app/operations.ts'
import { idAt, serve } from './support.ts'

t.jobs = 6

const service = await serve(t, { apis: 2 })
const { api, apis } = service
const [, otherApi] = apis

interface Connection {
  socket: WebSocket
  /** The frames received so far. */
  frames: string[]
  /** Returns whether any frame was binary. */
  sawBinary(): boolean
  /** Waits for the first event about a job, and returns the event. If `status` is given, the event must have it. */
  // biome-ignore lint/suspicious/noExplicitAny: the test checks the data
  event(id: string, status?: string): Promise<CloudEvent<any>>
  /** Returns the job ids of the received events. */
  jobIds(): (string | undefined)[]
  send(message: unknown): void
}

/** Connects to an API process. The default is the first process. */
async function connect(t: Test, user: string, target: { url: string } = api): Promise<Connection> {
  const socket = new WebSocket(`${target.url.replace('http', 'ws')}/events`, ['cloudevents.json'], {
    headers: { 'x-user': user },
  })
  t.teardown(() => socket.terminate())
  const frames: string[] = []
  let binary = false
  socket.on('message', (data, isBinary) => {
    binary ||= isBinary
    frames.push(data.toString())
  })
  await once(socket, 'open')
  const events = () => frames.map((frame) => new CloudEvent<Record<string, unknown>>(JSON.parse(frame)))
  return {
    ...{ socket, frames, sawBinary: () => binary },
    event: (id, status) =>
      until(() => events().find(({ data }) => data?.id === id && (status === undefined || data?.status === status))),
    jobIds: () => events().map(({ data }) => data?.id as string | undefined),
    send: (message) => socket.send(JSON.stringify(message)),
  }
}

t.test('the subprotocol is cloudevents.json', async (t) => {
  t.equal((await connect(t, 'ann')).socket.protocol, 'cloudevents.json')
})

t.test('each text frame contains one CloudEvent', async (t) => {
  const ann = service.as('ann')
  const connection = await connect(t, 'ann')
  const { id } = await ann.submit('/notes', { text: 'x' })
  await connection.event(id, 'succeeded')
  t.notOk(connection.sawBinary())
  for (const frame of connection.frames) {
    // Throws if the event is invalid.
    const event = new CloudEvent(JSON.parse(frame), true)
    t.equal(event.specversion, '1.0')
  }
})

t.test('an event carries the monitor', async (t) => {
  const bob = service.as('bob')
  const connection = await connect(t, 'bob')
  // The snapshot has no results, so the job ends after the client has received it.
  const id = await bob.running()
  await connection.event(id, 'running')
  await service.steer(id, { do: 'succeed' })
  const { data } = await connection.event(id, 'succeeded')
  t.same(data, await bob.monitor(id))
})

t.test('the events for different versions of a job have different ids', async (t) => {
  const cleo = service.as('cleo')
  const connection = await connect(t, 'cleo')
  const id = await cleo.endedAs('succeeded')
  await connection.event(id, 'succeeded')
  const events = connection.frames.map((frame) => JSON.parse(frame))
  // A version may arrive twice: without its result in the snapshot, and with it.
  const versions = new Set(events.map(({ subject, data }) => `${subject} ${data.sequence}`))
  t.equal(new Set(events.map(({ source, id }) => `${source} ${id}`)).size, versions.size)
})

t.test(
  'a client without a subscription receives all its jobs, including jobs that another API process accepted',
  async (t) => {
    const connection = await connect(t, 'dora')
    const { id: first } = await service.as('dora').submit('/idle', { text: 'x' })
    const { id: second } = await service.as('dora', otherApi).submit('/idle', { text: 'x' })
    await connection.event(first)
    await connection.event(second)
    t.pass('both received')
  },
)

t.test('a client without a subscription receives no jobs of other principals', async (t) => {
  const connection = await connect(t, 'eve')
  const { id: theirs } = await service.as('fred').submit('/idle', { text: 'x' })
  const { id } = await service.as('eve').submit('/idle', { text: 'x' })
  await connection.event(id)
  t.notOk(connection.jobIds().includes(theirs))
})

t.test('a subscription is answered with the current status', async (t) => {
  const gina = service.as('gina')
  const id = await gina.running()
  await service.steer(id, { do: 'progress', percent: 40, message: 'half way' })
  await gina.untilJob(id, ({ percentComplete }) => percentComplete === 40)
  const connection = await connect(t, 'gina')
  connection.send({ subscribe: [id] })
  const { data } = await connection.event(id)
  const { estimatedCompletionAt: _, ...first } = data
  const { estimatedCompletionAt: __, ...monitor } = await gina.monitor(id)
  t.same(first, monitor)
})

t.test('a subscription to a job that has ended is answered with its final status', async (t) => {
  const hugo = service.as('hugo')
  const id = await hugo.endedAs('failed')
  const connection = await connect(t, 'hugo')
  connection.send({ subscribe: [id] })
  const { data } = await connection.event(id)
  t.equal(data.status, 'failed')
})

t.test('a client with a subscription receives later changes', async (t) => {
  const ida = service.as('ida')
  const id = await ida.running()
  const connection = await connect(t, 'ida')
  connection.send({ subscribe: [id] })
  await connection.event(id, 'running')
  await service.steer(id, { do: 'progress', percent: 40 }, { do: 'succeed' })
  const { data } = await connection.event(id, 'succeeded')
  t.same(data, await ida.monitor(id))
})

t.test('a client with a subscription receives only the jobs to which it has subscribed', async (t) => {
  const jim = service.as('jim')
  const { id } = await jim.submit('/idle', { text: 'x' })
  const connection = await connect(t, 'jim')
  connection.send({ subscribe: [id] })
  await connection.event(id)
  const { id: other } = await jim.submit('/idle', { text: 'x' })
  await jim.post(`/jobs/${id}/cancel`, undefined)
  await connection.event(id, 'canceled')
  t.notOk(connection.jobIds().includes(other))
})

t.test('a client can subscribe to several jobs in one message', async (t) => {
  const kim = service.as('kim')
  const ids = [await kim.endedAs('canceled'), (await kim.submit('/idle', { text: 'x' })).id]
  const connection = await connect(t, 'kim')
  connection.send({ subscribe: ids })
  for (const id of ids) await connection.event(id)
  t.same(new Set(connection.jobIds()), new Set(ids))
})

t.test('if a client subscribes to several ids, each id that fails is answered with a separate error', async (t) => {
  const [lea, lou] = [service.as('lea'), service.as('lou')]
  const { id: mine } = await lea.submit('/idle', { text: 'x' })
  const { id: theirs } = await lou.submit('/idle', { text: 'x' })
  const expired = await lea.endedAs('canceled')
  await service.expire(expired)
  const [never, longAgo] = [idAt(Date.now()), idAt(0)]
  const connection = await connect(t, 'lea')
  connection.send({ subscribe: [theirs, 'x', expired, mine.toUpperCase(), never, mine, longAgo, 'x'] })
  await connection.event(mine)
  await until(() => connection.frames.filter((frame) => JSON.parse(frame).type === 'error').length >= 5)
  const events = connection.frames.map((frame) => JSON.parse(frame))
  t.same(
    new Map(events.map(({ subject, data }) => [subject, data.error?.code ?? data.status])),
    new Map([
      ...[
        [theirs, 'not-found'],
        ['x', 'not-found'],
        [expired, 'job-expired'],
        [never, 'not-found'],
        [longAgo, 'job-expired'],
      ],
      [mine, 'queued'],
    ] as [string, string][]),
  )
  // On a busy machine, the snapshot may come before the answers.
  t.equal(events.filter(({ type }) => type === 'error').length, 5)
})

t.test('if a message has too many ids, the whole message is refused', async (t) => {
  const { id } = await service.as('lin').submit('/idle', { text: 'x' })
  const connection = await connect(t, 'lin')
  connection.send({ subscribe: [...Array.from({ length: 1_000 }, (_, n) => `${n}`), id] })
  connection.send({ subscribe: [id] })
  await connection.event(id)
  const errors = () => connection.frames.map((frame) => JSON.parse(frame)).filter(({ type }) => type === 'error')
  await until(() => errors().length > 0)
  t.match(errors(), [{ data: { error: { code: 'invalid-message' } } }])
  t.equal(errors().length, 1)
})

t.test(
  'a client that sends many messages gets at most one event per message, and does not delay other clients',
  async (t) => {
    const { id } = await service.as('liv').submit('/idle', { text: 'x' })
    const { id: marker } = await service.as('liv').submit('/idle', { text: 'x' })
    const connection = await connect(t, 'liv')
    const messages = 200
    for (let count = 0; count < messages; count++) connection.send({ subscribe: Array(1_500).fill(id) })
    connection.send({ subscribe: [marker] })
    t.equal((await service.as('mia').submit('/idle', { text: 'x' })).status, 'queued')
    await connection.event(marker)
    t.same([...new Set(connection.jobIds())], [id, marker])
    t.ok(connection.frames.length <= messages + 1)
  },
)

t.test('a slow client receives the newest status of each of its jobs', async (t) => {
  const may = service.as('may')
  const ids: string[] = []
  // Together, these jobs are larger than the buffers of the connection.
  for (let count = 0; count < 20; count++) {
    const { id } = await may.submit('/echoes', { text: 'x'.repeat(900_000) })
    ids.push(id)
  }
  for (const id of ids) await may.ended(id)
  const { id: idle } = await may.submit('/idle', { text: 'x' })
  const [slow, fast] = [await connect(t, 'may'), await connect(t, 'may')]
  slow.socket.pause()
  slow.send({ subscribe: [...ids, idle] })
  fast.send({ subscribe: [...ids, idle] })
  await fast.event(idle)
  await may.post(`/jobs/${idle}/cancel`, undefined)
  await fast.event(idle, 'canceled')
  slow.socket.resume()
  await slow.event(idle, 'canceled')
  t.same(new Set(slow.jobIds()), new Set([...ids, idle]))
  const ofIdle = slow.frames.map((frame) => JSON.parse(frame).data).filter(({ id }) => id === idle)
  t.equal(ofIdle.at(-1).status, 'canceled')
})

t.test('a client receives all jobs of a large snapshot', async (t) => {
  const mel = service.as('mel')
  const ids = new Set<string>()
  for (let count = 0; count < 20; count++) ids.add((await mel.submit('/echoes', { text: 'x'.repeat(900_000) })).id)
  for (const id of ids) await mel.ended(id)
  const connection = await connect(t, 'mel')
  for (const id of ids) await connection.event(id, 'succeeded')
  t.same(new Set(connection.jobIds()), ids)
})

t.test('after a client unsubscribes from a job, it receives no more events about that job', async (t) => {
  const leo = service.as('leo')
  const [gone, kept] = await Promise.all([leo.running(), leo.running()])
  const connection = await connect(t, 'leo')
  connection.send({ subscribe: [gone, kept] })
  await connection.event(gone)
  await connection.event(kept)
  connection.send({ unsubscribe: [gone] })
  // The API handles messages in order. Once this message is answered, the unsubscribe has been handled.
  const { id: marker } = await leo.submit('/idle', { text: 'x' })
  connection.send({ subscribe: [marker] })
  await connection.event(marker)
  await service.steer(gone, { do: 'succeed' })
  await leo.ended(gone)
  await service.steer(kept, { do: 'succeed' })
  await connection.event(kept, 'succeeded')
  const received = connection.frames.map((frame) => JSON.parse(frame).data)
  t.notOk(received.some(({ id, status }) => id === gone && status === 'succeeded'))
})

t.test('after a client unsubscribes from its last job, it receives all its jobs again', async (t) => {
  const ned = service.as('ned')
  const { id } = await ned.submit('/idle', { text: 'x' })
  const connection = await connect(t, 'ned')
  connection.send({ subscribe: [id] })
  await connection.event(id)
  connection.send({ unsubscribe: [id] })
  // The API handles messages in order. Once this message is answered, the unsubscribe has been handled.
  connection.send({ unsubscribe: 'x' })
  await until(() => connection.frames.some((frame) => JSON.parse(frame).type === 'error'))
  const { id: other } = await ned.submit('/idle', { text: 'x' })
  await connection.event(other)
  await ned.post(`/jobs/${id}/cancel`, undefined)
  await connection.event(id, 'canceled')
  t.pass('both received')
})

t.test('if all subscriptions of a client fail, the client still receives all its jobs', async (t) => {
  const connection = await connect(t, 'nick')
  connection.send({ subscribe: [idAt(Date.now())] })
  await until(() => connection.frames.length > 0)
  const { id } = await service.as('nick').submit('/idle', { text: 'x' })
  await connection.event(id)
  t.pass('received')
})

t.test("a client that subscribes to another principal's job receives no event about that job", async (t) => {
  const { id: theirs } = await service.as('max').submit('/notes', { text: 'secret of max' })
  const { id: mine } = await service.as('nina').submit('/idle', { text: 'x' })
  const connection = await connect(t, 'nina')
  connection.send({ subscribe: [theirs, idAt(Date.now()), 'x', mine] })
  await connection.event(mine)
  await service.as('max').ended(theirs)
  await service.as('nina').post(`/jobs/${mine}/cancel`, undefined)
  await connection.event(mine, 'canceled')
  t.notOk(connection.jobIds().includes(theirs))
  t.notMatch(connection.frames.join(), 'note.create')
})

for (const message of ['', 'not json', '[]', 'null', '{"subscribe":"x"}', '{"subscribe":[1]}']) {
  t.test(`an invalid message does not stop the process: ${message}`, async (t) => {
    const connection = await connect(t, 'otto')
    connection.socket.send(message)
    const again = await connect(t, 'otto')
    const { id } = await service.as('otto').submit('/idle', { text: 'x' })
    await again.event(id)
    t.pass('received')
  })
}

for (const [what, message] of [
  ['empty', ''],
  ['not JSON', '{'],
  ['JSON without meaning', '{"do":"something"}'],
  ['ambiguous', '{"subscribe":["a"],"subscribe":["b"]}'],
] as const) {
  t.test(`a connection with 15 invalid messages stays open; the 16th closes it with code 1008: ${what}`, async (t) => {
    const { socket, frames } = await connect(t, 'pat')
    const closed = once(socket, 'close')
    for (let count = 0; count < 15; count++) socket.send(message)
    await until(() => frames.some((frame) => JSON.parse(frame).data.error?.code === 'invalid-message'))
    t.equal(socket.readyState, socket.OPEN)
    socket.send(message)
    t.equal((await closed)[0], 1008)
  })
}

/** Sends many frames in one write, and reads nothing. */
async function flood(t: Test, user: string, frame: (number: number) => Buffer, bytes: number) {
  const { socket } = await connect(t, user)
  socket.pause()
  const frames: Buffer[] = []
  for (let size = 0; size < bytes; size += frames.at(-1)?.length ?? 0) frames.push(frame(frames.length))
  // The socket below the WebSocket. The library could only send whole messages, one by one.
  const { _socket: raw } = socket as unknown as { _socket: Socket }
  raw.on('error', () => {})
  raw.write(Buffer.concat(frames))
  return raw
}

/** Makes a masked frame with the mask 0. The payload has less than 126 bytes. */
const frameOf = (opcode: number, payload: string) =>
  Buffer.concat([Buffer.from([0x80 | opcode, 0x80 | payload.length, 0, 0, 0, 0]), Buffer.from(payload)])

for (const [what, frame] of Object.entries({
  'empty messages': () => frameOf(1, ''),
  'messages that are not JSON': () => frameOf(1, '{'),
  'empty subscriptions': () => frameOf(1, '{"subscribe":[]}'),
  'subscriptions to unknown jobs': (number: number) => frameOf(1, `{"subscribe":["${number}"]}`),
  'ends of subscriptions': (number: number) => frameOf(1, `{"unsubscribe":["${number}"]}`),
  pings: () => frameOf(9, ''),
  pongs: () => frameOf(10, ''),
  'empty fragments': (number: number) => Buffer.from([number === 0 ? 1 : 0, 0x80, 0, 0, 0, 0]),
})) {
  t.test(`a client that floods its connection does not stop the others: ${what}`, async (t) => {
    const floods = await Promise.all([1, 2, 3].map((number) => flood(t, `flood ${what} ${number}`, frame, 512 * 1024)))
    // The API needs a turn of its event loop for each request, and handles the frames in the meantime.
    for (let count = 0; count < 100; count++) t.equal((await service.as('quiet').get('/health/live')).status, 200)
    const { id } = await service.as('quiet').submit('/notes', { text: 'x' })
    t.equal((await service.as('quiet').ended(id)).status, 'succeeded')
    for (const socket of floods) socket.destroy()
  })
}

t.test('a subscription to many jobs with large results is answered without the results', async (t) => {
  const roy = service.as('roy')
  const ids: string[] = []
  for (let count = 0; count < 5; count++) ids.push((await roy.submit('/echoes', { text: 'x'.repeat(900_000) })).id)
  const { id: small } = await roy.submit('/echoes', { text: 'small' })
  for (const id of [...ids, small]) await roy.ended(id)
  const connection = await connect(t, 'roy')
  connection.send({ subscribe: [...ids, small] })
  for (const id of ids) t.equal('result' in (await connection.event(id)).data, false)
  // On a busy machine, the snapshot may come before the answer. It has no results.
  const received = () => connection.frames.map((frame) => JSON.parse(frame).data)
  t.same(await until(() => received().find(({ id, result }) => id === small && result)), await roy.monitor(small))
  t.ok(connection.frames.join('').length < 100_000)
})

t.test('a client that receives a job in the snapshot still receives its result', async (t) => {
  const sam = service.as('sam')
  const { id: old } = await sam.submit('/echoes', { text: 'old' })
  await sam.ended(old)
  const connection = await connect(t, 'sam')
  const { id } = await sam.submit('/echoes', { text: 'x' })
  const received = () => connection.frames.map((frame) => JSON.parse(frame).data)
  await until(() => received().some((data) => data.id === id && data.result))
  t.same(
    received().findLast((data) => data.id === id),
    await sam.monitor(id),
  )
})

t.test('a connection without a principal is refused with 401', async (t) => {
  const socket = new WebSocket(`${api.url.replace('http', 'ws')}/events`, ['cloudevents.json'], {
    headers: { 'x-user': 'nobody' },
  })
  t.teardown(() => socket.terminate())
  socket.on('error', () => {})
  const [, response] = await once(socket, 'unexpected-response')
  t.equal(response.statusCode, 401)
})

t.test(
  'if a job cannot be serialised, the connection is closed with code 1011, and the process stays live',
  async (t) => {
    const local = await serveLocally(t, { operations: [operations.idle] })
    await local.database.pool.query(operations.schema)
    const submit = () =>
      fetch(`${local.url}/idle`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: '{"text":"x"}',
      })
    t.equal((await submit()).status, 202)
    const closeCode = async ({ socket }: Connection) => (await once(socket, 'close'))[0]
    const closed = closeCode(await connect(t, 'ann', local))
    // JSON has no representation for an infinite time.
    await local.database.pool.query("update accepted.job set sequence = sequence + 1, updated_at = 'infinity'")
    t.equal(await closed, 1011)
    // The snapshot of a new connection also contains this job.
    t.equal(await closeCode(await connect(t, 'ann', local)), 1011)
    t.equal((await submit()).status, 202)
  },
)
