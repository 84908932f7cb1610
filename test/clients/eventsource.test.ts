import { EventSource } from 'eventsource'
import t, { type Test } from 'tap'
import { post } from '../support/client.ts'
import { startProxy } from '../support/proxy.ts'
import { until } from '../support/until.ts'
import { metric, startApp } from './app/start.ts'

const app = await startApp(t)

interface ReceivedEvent {
  type: string
  id: number
  // biome-ignore lint/suspicious/noExplicitAny: the test checks the data
  data: any
}

/** An EventSource, the events that it received, and the requests that it sent. */
interface Recording {
  source: EventSource
  events: ReceivedEvent[]
  /** The Last-Event-ID and the response status of each connection. */
  connections: { lastEventId: string | null; status: number }[]
}

function record(t: Test, url: string): Recording {
  const events: ReceivedEvent[] = []
  const connections: Recording['connections'] = []
  const source = new EventSource(url, {
    fetch: async (input, init) => {
      const response = await fetch(input, init)
      connections.push({ lastEventId: new Headers(init.headers).get('last-event-id'), status: response.status })
      return response
    },
  })
  t.teardown(() => source.close())
  for (const type of ['status', 'progress']) {
    source.addEventListener(type, ({ lastEventId, data }) => {
      events.push({ type, id: Number(lastEventId), data: JSON.parse(data) })
    })
  }
  return { source, events, connections }
}

const isRunning = ({ events }: Recording) => events.some(({ data }) => data.status === 'running')

t.test('an EventSource follows a job until the job ends, reconnects once, and stops when it gets 204', async (t) => {
  const { body } = await post(`${app.url}/renderings`, { name: 'followed' })
  const recording = record(t, body.links.events)
  await until(() => isRunning(recording))
  await app.steer('followed', { percent: 50, message: 'half way' })
  await until(() => recording.events.some(({ data }) => data.message === 'half way'))
  await app.steer('followed', { ending: 'succeed' })
  await until(() => recording.source.readyState === EventSource.CLOSED)
  const { events, connections } = recording
  const ids = events.map(({ id }) => id)
  t.same(
    ids,
    [...new Set(ids)].toSorted((a, b) => a - b),
    'the ids increase',
  )
  t.match(events.at(-1), {
    type: 'status',
    data: { status: 'succeeded', percentComplete: 100, resourceLocation: `${app.url}/documents/${body.id}` },
  })
  t.equal(events.at(-1)?.id, events.at(-1)?.data.sequence)
  t.match(
    events.filter(({ type }) => type === 'progress'),
    [{ data: { percentComplete: 50, message: 'half way' } }],
  )
  t.same(connections, [
    { lastEventId: null, status: 200 },
    { lastEventId: String(ids.at(-1)), status: 204 },
  ])
})

t.test('an EventSource resumes the stream after its connection was cut', async (t) => {
  const proxy = await startProxy(t, app.url)
  const { body } = await post(`${proxy.url}renderings`, { name: 'cut' })
  const recording = record(t, body.links.events)
  await until(() => isRunning(recording))
  const known = recording.events.length
  const last = recording.events.at(-1)?.id
  await proxy.close()
  await app.steer('cut', { percent: 25, message: 'while disconnected' })
  await until(async () => (await (await fetch(`${app.url}/jobs/${body.id}`)).text()).includes('while disconnected'))
  t.equal(recording.events.length, known)
  await proxy.open()
  await until(() => recording.events.length > known)
  t.match(recording.events[known], { data: { message: 'while disconnected', percentComplete: 25 } })
  t.match(recording.connections.at(-1), { lastEventId: String(last), status: 200 })
  await app.steer('cut', { percent: 75, message: 'after resuming' })
  await until(() => recording.events.some(({ data }) => data.message === 'after resuming'))
  await app.steer('cut', { ending: 'fail', message: 'out of ink' })
  await until(() => recording.source.readyState === EventSource.CLOSED)
  t.match(recording.events.at(-1)?.data, {
    status: 'failed',
    error: { code: 'rendering-failed', message: 'out of ink' },
  })
  const ids = recording.events.map(({ id }) => id)
  t.same(
    ids,
    [...new Set(ids)].toSorted((a, b) => a - b),
    'the ids increase',
  )
})

t.test('an EventSource that connects after the job has ended receives the final event and stops', async (t) => {
  const { body } = await post(`${app.url}/word-counts`, { text: 'two words' }, { prefer: 'wait=55' })
  t.equal(body.status, 'succeeded')
  const recording = record(t, body.links.events)
  await until(() => recording.source.readyState === EventSource.CLOSED)
  t.match(recording.events, [{ type: 'status', data: { status: 'succeeded', result: { words: 2 } } }])
  t.equal(recording.events.length, 1)
})

t.test('an EventSource follows all jobs, and receives the changes that it missed', async (t) => {
  const proxy = await startProxy(t, app.url)
  const recording = record(t, `${proxy.url}events`)
  const hasReceived = (id: string) => recording.events.some(({ data }) => data.id === id && data.status === 'succeeded')
  await until(() => recording.source.readyState === EventSource.OPEN)
  const first = await post(`${app.url}/documents`, { text: 'the first' })
  await until(() => hasReceived(first.body.id))
  await proxy.close()
  const second = await post(`${app.url}/documents`, { text: 'the second' }, { prefer: 'wait=55' })
  t.equal(second.body.status, 'succeeded')
  t.notOk(hasReceived(second.body.id))
  await proxy.open()
  await until(() => hasReceived(second.body.id))
  const third = await post(`${app.url}/documents`, { text: 'the third' })
  await until(() => hasReceived(third.body.id))
  recording.source.close()
  await until(async () => (await metric(app, 'accepted_event_streams')) === 0)
})

t.test('an EventSource for an unknown job stops', async (t) => {
  const { source, connections } = record(t, `${app.url}/jobs/0199a0a0-0000-7000-8000-000000000000/events`)
  await until(() => source.readyState === EventSource.CLOSED)
  t.match(connections, [{ status: /404|410/ }])
})
