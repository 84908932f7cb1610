import { defineOperation } from 'accepted'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { serve } from '../../support/api.ts'
import { get, post } from '../../support/client.ts'
import { until } from '../../support/until.ts'

const operation = defineOperation({
  name: 'note.create',
  route: { method: 'POST', url: '/notes' },
  input: Type.Object({ text: Type.String() }),
  result: Type.Object({ text: Type.String(), number: Type.Number() }),
})

const result = { text: 'é"\\\n'.repeat(100_000), number: 0.1 }
const error = { code: 'too-many', message: 'Too many', details: ['d'.repeat(50_000)] }

async function setUp(t: Test) {
  const api = await serve(t, { operations: { operation }, authenticate: () => 'ann' })
  const add = async (headers?: Record<string, string>) => (await post(`${api.url}/notes`, { text: 'x' }, headers)).body
  const set = (id: string, assignments: string, values: unknown[] = []) =>
    api.database.pool.query(
      `update accepted.job set ${assignments}, sequence = sequence + 1, updated_at = now() where id = $1`,
      [id, ...values],
    )
  return {
    ...{ ...api, add },
    succeed: (id: string) => set(id, `status = 'succeeded', ended_at = now(), result = $2`, [JSON.stringify(result)]),
    fail: (id: string) =>
      set(id, `status = 'failed', ended_at = now(), error = $2`, [JSON.stringify({ ...error, public: true })]),
  }
}

/** Reads a stream, and returns the data of the events about a job. */
async function read(t: Test, url: string) {
  const abort = new AbortController()
  t.teardown(() => abort.abort())
  const response = await fetch(url, { headers: { accept: 'text/event-stream' }, signal: abort.signal })
  const stream = { text: '', isEnded: false }
  const reading = async () => {
    const decoder = new TextDecoder()
    for await (const chunk of response.body as ReadableStream<Uint8Array>) {
      stream.text += decoder.decode(chunk, { stream: true })
    }
    stream.isEnded = true
  }
  reading().catch(() => {})
  const eventsOf = (id: string) =>
    [...stream.text.matchAll(/^data: (.*)\n\n/gm)]
      .map(([, data]) => JSON.parse(data as string))
      .filter((job) => job.id === id)
  return { stream, eventsOf }
}

t.test('the monitor and the result URL have the whole result, however they are asked for it', async (t) => {
  const { add, succeed } = await setUp(t)
  const { id, links } = await add({ 'idempotency-key': 'k' })
  const waiting = [get(links.self, { prefer: 'wait=30' }), get(links.result, { prefer: 'wait=30' })]
  await succeed(id)
  const [waitedMonitor, waitedResult] = await Promise.all(waiting)
  const monitor = await get(links.self)
  t.equal(monitor.status, 200)
  t.equal(monitor.headers.get('content-type'), 'application/json; charset=utf-8')
  t.strictSame(monitor.body.result, result)
  t.strictSame(waitedMonitor?.body, monitor.body)
  t.strictSame(waitedResult?.body, result)
  const { status, headers, body } = await get(links.result)
  t.equal(status, 200)
  t.equal(headers.get('content-type'), 'application/json; charset=utf-8')
  t.strictSame(body, result)
  t.equal((await get(links.self, { 'if-none-match': monitor.headers.get('etag') as string })).status, 304)
  const head = await fetch(links.result, { method: 'HEAD' })
  t.equal(head.headers.get('content-length'), headers.get('content-length'))
})

t.test('a repeated request answers with the whole result of its job', async (t) => {
  const { url, add, succeed } = await setUp(t)
  const { id, links } = await add({ 'idempotency-key': 'k' })
  await succeed(id)
  const monitor = (await get(links.self)).body
  const repeated = await post(`${url}/notes`, { text: 'x' }, { 'idempotency-key': 'k' })
  t.equal(repeated.status, 202)
  t.strictSame(repeated.body, monitor)
  const waited = await post(`${url}/notes`, { text: 'x' }, { 'idempotency-key': 'k', prefer: 'wait=5' })
  t.equal(waited.status, 200)
  t.strictSame(waited.body, monitor)
  const prefer = 'wait=5, return=representation'
  t.strictSame((await post(`${url}/notes`, { text: 'x' }, { 'idempotency-key': 'k', prefer })).body, result)
})

t.test('a job that fails with large details shows them in its monitor and at its result URL', async (t) => {
  const { add, fail } = await setUp(t)
  const { id, links } = await add()
  await fail(id)
  const monitor = (await get(links.self)).body
  t.strictSame(monitor.error, error)
  const answer = await get(links.result)
  t.equal(answer.status, 424)
  t.equal(answer.headers.get('content-type'), 'application/problem+json; charset=utf-8')
  t.strictSame(answer.body.error, error)
  t.strictSame(answer.body.job, monitor)
})

t.test(
  'the stream of a job ends with the whole result or error, and the stream of all jobs leaves it out',
  async (t) => {
    const { url, add, succeed, fail } = await setUp(t)
    const all = await read(t, `${url}/events`)
    for (const [end, member, whole] of [
      [succeed, 'result', result],
      [fail, 'error', error],
    ] as const) {
      const { id, links } = await add()
      const streams = await Promise.all([1, 2, 3].map(() => read(t, links.events)))
      for (const { eventsOf } of streams) await until(() => eventsOf(id).length === 1)
      await end(id)
      for (const { stream, eventsOf } of streams) {
        await until(() => stream.isEnded)
        t.strictSame(eventsOf(id).at(-1)[member], whole)
      }
      const event = await until(() => all.eventsOf(id).find(({ endedAt }) => endedAt))
      const { details: _, ...withoutDetails } = error
      t.strictSame(event[member], member === 'error' ? withoutDetails : undefined)
      const late = await read(t, links.events)
      await until(() => late.stream.isEnded)
      t.strictSame(late.eventsOf(id)[0][member], whole)
    }
  },
)
