import got, { type RequestError } from 'got'
import t from 'tap'
import { post } from '../support/client.ts'
import { until } from '../support/until.ts'
import { startFaultyProxy } from './app/faulty-proxy.ts'
import { metric, startApp, takeAllSeats } from './app/start.ts'

// The worker does not claim jobs of seat.reserve, so the reservations stay in the backlog.
const app = await startApp(t, { operations: 'document.create,document.replace,document.render,text.check' })

// biome-ignore lint/suspicious/noExplicitAny: the tests check bodies
type Body = any

const waiting = { headers: { prefer: 'wait=55' }, responseType: 'json' } as const
const isWatched = async () => (await metric(app, 'accepted_watched_jobs')) > 0

t.test('got follows the 303 to the resource', async (t) => {
  const { headers } = await got.post(`${app.url}/documents`, { json: { text: 'A letter' } })
  const response = await got<Body>(headers.location as string, waiting)
  t.equal(response.url, `${app.url}/documents/${response.body.id}`)
  t.match(response.body, { text: 'A letter', state: 'ready' })
})

t.test('after a POST with `wait` and `return=representation`, got follows the redirect to the resource', async (t) => {
  const { body, redirectUrls } = await got.post<Body>(`${app.url}/documents`, {
    json: { text: 'A letter' },
    headers: { prefer: 'wait=55, return=representation' },
    responseType: 'json',
  })
  t.match(body, { text: 'A letter', state: 'ready' })
  t.equal(redirectUrls.length, 1)
})

t.test('if a job failed, got throws an HTTPError that contains the monitor', async (t) => {
  const { headers } = await got.post(`${app.url}/checks`, { json: { text: 'There is a comma too many' } })
  await t.rejects(got(headers.location as string, waiting), {
    name: 'HTTPError',
    response: { statusCode: 422, body: { error: { code: 'text-refused' }, job: { status: 'failed' } } },
  })
})

t.test('got retries a request until the full backlog has room', async (t) => {
  const reserved = await takeAllSeats(app)
  const refusals: unknown[] = []
  const second = await got.put<Body>(`${app.url}/seat`, {
    json: { text: 'second' },
    responseType: 'json',
    hooks: {
      beforeRetry: [
        async ({ response }: RequestError) => {
          refusals.push([response?.statusCode, Number(response?.headers['retry-after']) >= 1])
          for (const job of reserved) await got.delete(job)
        },
      ],
    },
  })
  t.same(refusals, [[503, true]])
  t.equal(second.statusCode, 202)
  t.match(second.body, { operation: 'seat.reserve', status: 'queued' })
})

for (const status of [429, 503]) {
  t.test(`got retries a request that gets ${status} with Retry-After`, async (t) => {
    const { body: job } = await post(`${app.url}/documents`, { text: 'A letter' })
    const proxy = await startFaultyProxy(t, app.url, { status, retryAfter: 1 })
    const { body } = await got<Body>(`${proxy.url}/jobs/${job.id}/result`, waiting)
    t.match(body, { id: job.id, text: 'A letter' })
    t.same(proxy.requests, [`GET /jobs/${job.id}/result`, `GET /jobs/${job.id}/result`, `GET /documents/${job.id}`])
  })
}

t.test('if the response to a PUT is lost, got repeats the PUT with the same key and gets the same job', async (t) => {
  const proxy = await startFaultyProxy(t, app.url, 'response lost')
  const { body, headers } = await got.put<Body>(`${proxy.url}/documents/kept`, {
    json: { text: 'A letter' },
    headers: { 'idempotency-key': 'got-1' },
    responseType: 'json',
  })
  t.same(proxy.requests, ['PUT /documents/kept', 'PUT /documents/kept'])
  t.equal(headers['idempotent-replayed'], 'true')
  const { value } = await got(`${app.url}/jobs?operation=document.replace`).json<Body>()
  t.same(
    value.map(({ id }: Body) => id),
    [body.id],
  )
})

t.test(
  'if a long poll of got times out or is aborted, the API stops watching the job, and the job continues',
  async (t) => {
    const { body } = await post(`${app.url}/renderings`, { name: 'aborted' })
    await t.rejects(got(body.links.result, { ...waiting, timeout: { request: 500 }, retry: { limit: 0 } }), {
      name: 'TimeoutError',
    })
    await until(async () => !(await isWatched()))
    const controller = new AbortController()
    const held = got(body.links.result, { ...waiting, signal: controller.signal })
    await Promise.all([t.rejects(held, { name: 'AbortError' }), until(isWatched).then(() => controller.abort())])
    await until(async () => !(await isWatched()))
    await app.steer('aborted', { ending: 'succeed' })
    t.match(await got(body.links.result, waiting).json(), { id: body.id, text: 'aborted' })
  },
)
