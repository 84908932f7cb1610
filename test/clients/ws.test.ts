import { once } from 'node:events'
import { CloudEvent } from 'cloudevents'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import { ended, post } from '../support/client.ts'
import { until } from '../support/until.ts'
import { metric, startApp } from './app/start.ts'

const app = await startApp(t)
const address = `${app.url.replace('http', 'ws')}/events`

interface Connection {
  socket: WebSocket
  /** The received events. The CloudEvents library has validated each event. */
  events: CloudEvent<{ id: string; status: string; sequence: number; error?: { code: string } }>[]
  send(message: object): void
  /** Returns the newest received status of a job. */
  statusOf(id: string): string | undefined
}

async function connect(t: Test): Promise<Connection> {
  const socket = new WebSocket(address, 'cloudevents.json')
  t.teardown(() => socket.terminate())
  const events: Connection['events'] = []
  socket.on('message', (data, isBinary) => {
    t.equal(isBinary, false)
    // With `true`, the constructor throws if the event violates the specification.
    const event = new CloudEvent<Connection['events'][number]['data']>(JSON.parse(data.toString()), true)
    events.push(event as Connection['events'][number])
  })
  await once(socket, 'open')
  t.equal(socket.protocol, 'cloudevents.json')
  return {
    socket,
    events,
    send: (message) => socket.send(JSON.stringify(message)),
    statusOf: (id) => events.findLast(({ subject }) => subject === id)?.data?.status,
  }
}

const submit = async (path: string, body: object) => (await post(app.url + path, body)).body

t.test('a client receives all its jobs as CloudEvents', async (t) => {
  const before = await submit('/word-counts', { text: 'before connecting' })
  await ended(before.links.self)
  const { events, statusOf } = await connect(t)
  await until(() => statusOf(before.id) === 'succeeded')
  const after = await submit('/word-counts', { text: 'after connecting' })
  await until(() => statusOf(after.id) === 'succeeded')
  const last = events.findLast(({ subject }) => subject === after.id)
  t.match(last, { specversion: '1.0', type: 'job.succeeded', datacontenttype: 'application/json', subject: after.id })
  t.same(last?.data, await ended(after.links.self), 'the data is the monitor')
  // A version may arrive twice: without its result in the snapshot, and with it.
  t.equal(
    new Set(events.map(({ source, id }) => `${source} ${id}`)).size,
    new Set(events.map(({ subject, data }) => `${subject} ${data?.sequence}`)).size,
    'source and id together identify a version of a job',
  )
})

t.test('a client can subscribe to jobs and unsubscribe', async (t) => {
  const done = await submit('/checks', { text: 'There is a comma too many' })
  await ended(done.links.self)
  const [mine, other] = [await submit('/renderings', { name: 'mine' }), await submit('/renderings', { name: 'other' })]
  const { send, events, statusOf } = await connect(t)
  send({ subscribe: [done.id, mine.id, other.id] })
  await until(() => statusOf(done.id) && statusOf(mine.id) && statusOf(other.id))
  t.match(events.find(({ subject }) => subject === done.id)?.data, {
    status: 'failed',
    error: { code: 'text-refused' },
  })
  send({ unsubscribe: [other.id] })
  // The API handles messages in order. Once this message is answered, the unsubscribe has been handled.
  const known = events.length
  send({ subscribe: [done.id] })
  await until(() => events.slice(known).some(({ subject }) => subject === done.id))
  const ofOther = events.filter(({ subject }) => subject === other.id).length
  await app.steer('other', { ending: 'succeed' })
  await ended(other.links.self)
  const third = await submit('/word-counts', { text: 'not subscribed' })
  await ended(third.links.self)
  await app.steer('mine', { ending: 'succeed' })
  await until(() => statusOf(mine.id) === 'succeeded')
  t.equal(events.filter(({ subject }) => subject === other.id).length, ofOther)
  t.equal(statusOf(third.id), undefined)
  const sequences = events.filter(({ subject }) => subject === mine.id).map(({ data }) => data?.sequence as number)
  t.same(
    sequences,
    [...new Set(sequences)].toSorted((a, b) => a - b),
    'the sequences increase',
  )
})

t.test('an unknown job and an invalid message are each answered with an error', async (t) => {
  const { send, socket, events } = await connect(t)
  const unknownId = '0199a0a0-0000-7000-8000-000000000000'
  send({ subscribe: [unknownId] })
  await until(() => events.some(({ subject }) => subject === unknownId))
  // The client may also have received events of its other jobs.
  const answer = events.find(({ subject }) => subject === unknownId)
  t.match(answer, { type: 'error', data: { error: { code: /not-found|job-expired/ } } })
  socket.send('what?')
  await until(() => events.some(({ data }) => data?.error?.code === 'invalid-message'))
  t.equal(socket.readyState, WebSocket.OPEN)
})

t.test('the server does not accept a WebSocket with an unknown subprotocol', async (t) => {
  const socket = new WebSocket(address, 'cloudevents.avro')
  const [error] = await once(socket, 'error')
  t.match(error.message, /subprotocol/i)
})

t.test('when a client disconnects, the API stops watching its jobs', async (t) => {
  const { socket, send, statusOf } = await connect(t)
  const { id } = await submit('/renderings', { name: 'disconnected' })
  send({ subscribe: [id] })
  await until(() => statusOf(id))
  t.equal(await metric(app, 'accepted_watched_jobs'), 1)
  socket.close()
  const [code] = await once(socket, 'close')
  t.equal(code, 1005)
  await until(async () => (await metric(app, 'accepted_watched_jobs')) === 0)
  t.equal(await metric(app, 'accepted_watched_principals'), 0)
  await app.steer('disconnected', { ending: 'succeed' })
})
