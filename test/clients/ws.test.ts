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
  /** What it was told; every frame is one that CloudEvents' own library accepts. */
  told: CloudEvent<{ id: string; status: string; sequence: number; error?: { code: string } }>[]
  send(message: object): void
  /** The newest state of a job that it was told. */
  stateOf(id: string): string | undefined
}

async function connect(t: Test): Promise<Connection> {
  const socket = new WebSocket(address, 'cloudevents.json')
  t.teardown(() => socket.terminate())
  const told: Connection['told'] = []
  socket.on('message', (data, isBinary) => {
    t.equal(isBinary, false)
    // Strict: throws when the event is not as the specification says.
    const event = new CloudEvent<Connection['told'][number]['data']>(JSON.parse(data.toString()), true)
    told.push(event as Connection['told'][number])
  })
  await once(socket, 'open')
  t.equal(socket.protocol, 'cloudevents.json')
  return {
    socket,
    told,
    send: (message) => socket.send(JSON.stringify(message)),
    stateOf: (id) => told.findLast(({ subject }) => subject === id)?.data?.status,
  }
}

const submit = async (path: string, body: object) => (await post(app.url + path, body)).body

t.test('it is told of all its jobs, in CloudEvents', async (t) => {
  const before = await submit('/word-counts', { text: 'before it came' })
  await ended(before.links.self)
  const { told, stateOf } = await connect(t)
  await until(() => stateOf(before.id) === 'succeeded')
  const after = await submit('/word-counts', { text: 'after it came' })
  await until(() => stateOf(after.id) === 'succeeded')
  const last = told.findLast(({ subject }) => subject === after.id)
  t.match(last, { specversion: '1.0', type: 'job.succeeded', datacontenttype: 'application/json', subject: after.id })
  t.same(last?.data, await ended(after.links.self), 'data is the monitor')
  t.equal(new Set(told.map(({ source, id }) => `${source} ${id}`)).size, told.length, 'source and id name an event')
})

t.test('it subscribes to jobs, and unsubscribes', async (t) => {
  const done = await submit('/checks', { text: 'There is a comma too many' })
  await ended(done.links.self)
  const [mine, other] = [await submit('/renderings', { name: 'mine' }), await submit('/renderings', { name: 'other' })]
  const { send, told, stateOf } = await connect(t)
  send({ subscribe: [done.id, mine.id, other.id] })
  await until(() => stateOf(done.id) && stateOf(mine.id) && stateOf(other.id))
  t.match(told.find(({ subject }) => subject === done.id)?.data, { status: 'failed', error: { code: 'text-refused' } })
  send({ unsubscribe: [other.id] })
  // A subscription is answered: by then the message before it has been read.
  const known = told.length
  send({ subscribe: [done.id] })
  await until(() => told.slice(known).some(({ subject }) => subject === done.id))
  const ofOther = told.filter(({ subject }) => subject === other.id).length
  await app.steer('other', { ending: 'succeed' })
  await ended(other.links.self)
  const third = await submit('/word-counts', { text: 'of no interest' })
  await ended(third.links.self)
  await app.steer('mine', { ending: 'succeed' })
  await until(() => stateOf(mine.id) === 'succeeded')
  t.equal(told.filter(({ subject }) => subject === other.id).length, ofOther)
  t.equal(stateOf(third.id), undefined)
  const sequences = told.filter(({ subject }) => subject === mine.id).map(({ data }) => data?.sequence as number)
  t.same(
    sequences,
    [...new Set(sequences)].toSorted((a, b) => a - b),
    'in order, and nothing twice',
  )
})

t.test('what it cannot have is answered with an error of its own', async (t) => {
  const { send, socket, told } = await connect(t)
  const nobodys = '0199a0a0-0000-7000-8000-000000000000'
  send({ subscribe: [nobodys] })
  await until(() => told.some(({ subject }) => subject === nobodys))
  t.match(told.at(-1), { type: 'error', data: { error: { code: /not-found|job-expired/ } } })
  socket.send('what?')
  await until(() => told.some(({ data }) => data?.error?.code === 'invalid-message'))
  t.equal(socket.readyState, WebSocket.OPEN)
})

t.test('a subprotocol that is not offered is not agreed on', async (t) => {
  const socket = new WebSocket(address, 'cloudevents.avro')
  const [error] = await once(socket, 'error')
  t.match(error.message, /subprotocol/i)
})

t.test('one that leaves leaves nothing behind', async (t) => {
  const { socket, send, stateOf } = await connect(t)
  const { id } = await submit('/renderings', { name: 'left' })
  send({ subscribe: [id] })
  await until(() => stateOf(id))
  t.equal(await metric(app, 'accepted_watched_jobs'), 1)
  socket.close()
  const [code] = await once(socket, 'close')
  t.equal(code, 1005)
  await until(async () => (await metric(app, 'accepted_watched_jobs')) === 0)
  t.equal(await metric(app, 'accepted_watched_principals'), 0)
  await app.steer('left', { ending: 'succeed' })
})
