import { EventSource } from 'eventsource'
import t, { type Test } from 'tap'
import { post } from '../support/client.ts'
import { startProxy } from '../support/proxy.ts'
import { until } from '../support/until.ts'
import { metric, startApp } from './app/start.ts'

const app = await startApp(t)

interface Told {
  type: string
  id: number
  // biome-ignore lint/suspicious/noExplicitAny: the data is what the test is about
  data: any
}

/** An EventSource, what it was told, and what it asked for. */
interface Following {
  source: EventSource
  told: Told[]
  /** Last-Event-ID and the status of the answer, of each connection. */
  connections: { lastEventId: string | null; status: number }[]
}

function follow(t: Test, url: string): Following {
  const told: Told[] = []
  const connections: Following['connections'] = []
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
      told.push({ type, id: Number(lastEventId), data: JSON.parse(data) })
    })
  }
  return { source, told, connections }
}

const isRunning = ({ told }: Following) => told.some(({ data }) => data.status === 'running')

t.test('it follows a job to its end, comes back once and stops at 204', async (t) => {
  const { body } = await post(`${app.url}/renderings`, { name: 'followed' })
  const following = follow(t, body.links.events)
  await until(() => isRunning(following))
  await app.steer('followed', { percent: 50, message: 'half way' })
  await until(() => following.told.some(({ data }) => data.message === 'half way'))
  await app.steer('followed', { ending: 'succeed' })
  await until(() => following.source.readyState === EventSource.CLOSED)
  const { told, connections } = following
  const ids = told.map(({ id }) => id)
  t.same(
    ids,
    [...new Set(ids)].toSorted((a, b) => a - b),
    'in order, and nothing twice',
  )
  t.match(told.at(-1), {
    type: 'status',
    data: { status: 'succeeded', percentComplete: 100, resourceLocation: `${app.url}/documents/${body.id}` },
  })
  t.equal(told.at(-1)?.id, told.at(-1)?.data.sequence)
  t.match(
    told.filter(({ type }) => type === 'progress'),
    [{ data: { percentComplete: 50, message: 'half way' } }],
  )
  t.same(connections, [
    { lastEventId: null, status: 200 },
    { lastEventId: String(ids.at(-1)), status: 204 },
  ])
})

t.test('it goes on where it was when the connection is cut', async (t) => {
  const proxy = await startProxy(t, app.url)
  const { body } = await post(`${proxy.url}renderings`, { name: 'cut' })
  const following = follow(t, body.links.events)
  await until(() => isRunning(following))
  const known = following.told.length
  const last = following.told.at(-1)?.id
  await proxy.close()
  await app.steer('cut', { percent: 25, message: 'behind its back' })
  await until(async () => (await (await fetch(`${app.url}/jobs/${body.id}`)).text()).includes('behind its back'))
  t.equal(following.told.length, known)
  await proxy.open()
  await until(() => following.told.length > known)
  t.match(following.told[known], { data: { message: 'behind its back', percentComplete: 25 } })
  t.match(following.connections.at(-1), { lastEventId: String(last), status: 200 })
  await app.steer('cut', { percent: 75, message: 'as it goes on' })
  await until(() => following.told.some(({ data }) => data.message === 'as it goes on'))
  await app.steer('cut', { ending: 'fail', message: 'out of ink' })
  await until(() => following.source.readyState === EventSource.CLOSED)
  t.match(following.told.at(-1)?.data, { status: 'failed', error: { code: 'rendering-failed', message: 'out of ink' } })
  const ids = following.told.map(({ id }) => id)
  t.same(
    ids,
    [...new Set(ids)].toSorted((a, b) => a - b),
    'in order, and nothing twice',
  )
})

t.test('one that comes after the end is told it, and stops', async (t) => {
  const { body } = await post(`${app.url}/word-counts`, { text: 'two words' }, { prefer: 'wait=55' })
  t.equal(body.status, 'succeeded')
  const following = follow(t, body.links.events)
  await until(() => following.source.readyState === EventSource.CLOSED)
  t.match(following.told, [{ type: 'status', data: { status: 'succeeded', result: { words: 2 } } }])
  t.equal(following.told.length, 1)
})

t.test('it follows all jobs, and catches up on what it missed', async (t) => {
  const proxy = await startProxy(t, app.url)
  const following = follow(t, `${proxy.url}events`)
  const hasTold = (id: string) => following.told.some(({ data }) => data.id === id && data.status === 'succeeded')
  await until(() => following.source.readyState === EventSource.OPEN)
  const first = await post(`${app.url}/documents`, { text: 'the first' })
  await until(() => hasTold(first.body.id))
  await proxy.close()
  const second = await post(`${app.url}/documents`, { text: 'the second' }, { prefer: 'wait=55' })
  t.equal(second.body.status, 'succeeded')
  t.notOk(hasTold(second.body.id))
  await proxy.open()
  await until(() => hasTold(second.body.id))
  const third = await post(`${app.url}/documents`, { text: 'the third' })
  await until(() => hasTold(third.body.id))
  following.source.close()
  await until(async () => (await metric(app, 'accepted_event_streams')) === 0)
})

t.test('it is refused where there is no job', async (t) => {
  const { source, connections } = follow(t, `${app.url}/jobs/0199a0a0-0000-7000-8000-000000000000/events`)
  await until(() => source.readyState === EventSource.CLOSED)
  t.match(connections, [{ status: /404|410/ }])
})
