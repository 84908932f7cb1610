import ky from 'ky'
import t from 'tap'
import { post } from '../support/client.ts'
import { until } from '../support/until.ts'
import { startFaultyProxy } from './app/faulty-proxy.ts'
import { metric, startApp, takeAllSeats } from './app/start.ts'

// The worker does not claim jobs of seat.reserve, so the reservations stay in the backlog.
const app = await startApp(t, { operations: 'document.create,document.replace,document.render,text.check' })

// biome-ignore lint/suspicious/noExplicitAny: the tests check bodies
type Body = any

const waiting = { headers: { prefer: 'wait=55' } }
const isWatched = async () => (await metric(app, 'accepted_watched_jobs')) > 0

t.test('ky follows the 303 to the resource', async (t) => {
  const { headers } = await ky.post(`${app.url}/documents`, { json: { text: 'A letter' } })
  const response = await ky(headers.get('location') as string, waiting)
  const document = await response.json<Body>()
  t.equal(response.url, `${app.url}/documents/${document.id}`)
  t.match(document, { text: 'A letter', state: 'ready' })
})

t.test('if a job failed, ky throws an HTTPError that contains the monitor', async (t) => {
  const { headers } = await ky.post(`${app.url}/checks`, { json: { text: 'There is a comma too many' } })
  await t.rejects(ky(headers.get('location') as string, waiting), {
    name: 'HTTPError',
    response: { status: 422 },
    data: { error: { code: 'text-refused' }, job: { status: 'failed' } },
  })
})

t.test('ky retries a request until the full backlog has room', async (t) => {
  const reserved = await takeAllSeats(app)
  const refusals: unknown[] = []
  const second = await ky.put(`${app.url}/seat`, {
    json: { text: 'second' },
    hooks: {
      beforeRetry: [
        async ({ error }) => {
          const { response } = error as Error & { response: Response }
          refusals.push([response.status, Number(response.headers.get('retry-after')) >= 1])
          for (const job of reserved) await ky.delete(job)
        },
      ],
    },
  })
  t.same(refusals, [[503, true]])
  t.equal(second.status, 202)
  t.match(await second.json(), { operation: 'seat.reserve', status: 'queued' })
})

for (const status of [429, 503]) {
  t.test(`ky retries a request that gets ${status} with Retry-After`, async (t) => {
    const { body: job } = await post(`${app.url}/documents`, { text: 'A letter' })
    const proxy = await startFaultyProxy(t, app.url, { status, retryAfter: 1 })
    t.match(await ky(`${proxy.url}/jobs/${job.id}/result`, waiting).json(), { id: job.id, text: 'A letter' })
    t.same(proxy.requests, [`GET /jobs/${job.id}/result`, `GET /jobs/${job.id}/result`, `GET /documents/${job.id}`])
  })
}

t.test('if the response to a PUT is lost, ky repeats the PUT with the same key and gets the same job', async (t) => {
  const proxy = await startFaultyProxy(t, app.url, 'response lost')
  const response = await ky.put(`${proxy.url}/documents/kept`, {
    json: { text: 'A letter' },
    headers: { 'idempotency-key': 'ky-1' },
  })
  t.same(proxy.requests, ['PUT /documents/kept', 'PUT /documents/kept'])
  t.equal(response.headers.get('idempotent-replayed'), 'true')
  const { id } = await response.json<Body>()
  const { value } = await ky(`${app.url}/jobs?operation=document.replace`).json<Body>()
  t.same(
    value.map((job: Body) => job.id),
    [id],
  )
})

t.test(
  'if a long poll of ky times out or is aborted, the API stops watching the job, and the job continues',
  async (t) => {
    const { body } = await post(`${app.url}/renderings`, { name: 'aborted' })
    await t.rejects(ky(body.links.result, { ...waiting, timeout: 500, retry: 0 }), { name: 'TimeoutError' })
    await until(async () => !(await isWatched()))
    const controller = new AbortController()
    const held = ky(body.links.result, { ...waiting, timeout: false, signal: controller.signal })
    await Promise.all([t.rejects(held, { name: 'AbortError' }), until(isWatched).then(() => controller.abort())])
    await until(async () => !(await isWatched()))
    await app.steer('aborted', { ending: 'succeed' })
    t.match(await ky(body.links.result, { ...waiting, timeout: false }).json(), { id: body.id, text: 'aborted' })
  },
)
