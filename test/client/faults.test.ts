import type { IncomingMessage } from 'node:http'
import { createClient, type Job } from 'accepted/client'
import t, { type Test } from 'tap'
import { until } from '../support/until.ts'
import { apiKey, startApp } from './app.ts'
import type * as operations from './operations.ts'
import { type Fault, startFaultyProxy } from './proxy.ts'

const app = await startApp(t)
const proxy = await startFaultyProxy(t, app.url)
const routes = {
  'words.count': 'PUT /texts/{language}/words',
  'note.create': 'POST /notes',
  steered: 'POST /steered',
  idle: 'DELETE /idle',
} as const
const options = { url: proxy.url, headers: { 'x-api-key': apiKey }, routes }
const client = createClient<typeof operations>(options)

const isStream = ({ url }: IncomingMessage) => url?.endsWith('/events')

/** Makes the proxy cause these faults, one for each of the next requests that match. */
function causeInTurn(faults: readonly Fault[], matches: (request: IncomingMessage) => unknown = () => true): void {
  const left = [...faults]
  proxy.requests.length = 0
  proxy.choose = (request) => (matches(request) ? left.shift() : undefined)
}

const requestsTo = (path: RegExp) => proxy.requests.filter(({ route }) => path.test(route))

const faults: readonly Fault[] = [
  'not sent',
  'answer lost',
  'answer cut',
  { status: 502, body: '<h1>Bad gateway</h1>' },
  { status: 503, headers: { 'retry-after': '0' } },
  { status: 429, headers: { 'retry-after': new Date().toUTCString() } },
  { status: 409, body: '{"error":{"code":"idempotency-key-locked"}}' },
  { status: 200, headers: { 'content-type': 'text/html' }, body: '<h1>Log in to this network</h1>' },
]

t.test('whatever happens to a request, it is repeated with its key, and there is one job', async (t) => {
  for (const fault of faults) {
    const before = await app.count('words.count')
    causeInTurn([fault])
    const job = await client.submit('words.count', { text: 'a b' }, { params: { language: 'en' } })
    const keys = requestsTo(/words$/).map(({ headers }) => headers['idempotency-key'])
    t.equal(keys.length, 2)
    t.equal(new Set(keys).size, 1)
    t.equal(await app.count('words.count'), before + 1, JSON.stringify(fault))
    causeInTurn([fault])
    t.same(await client.result(job), { words: 2, language: 'en' })
    t.ok(requestsTo(/jobs/).length > 1, 'reading the result is repeated too')
  }
})

t.test('the error of the last attempt is thrown when repeating takes too long', async (t) => {
  const hasty = createClient<typeof operations>({ ...options, retrySeconds: 0 })
  const submit = () => hasty.submit('idle', {})
  causeInTurn(['not sent', { status: 503, headers: { 'retry-after': '7' } }])
  await t.rejects(submit(), { code: 'network-error', status: undefined, cause: { name: 'TypeError' } })
  await t.rejects(submit(), { code: 'http-error', status: 503, retryAfterSeconds: 7 })
  causeInTurn([{ status: 503, headers: { 'retry-after': '3600' } }])
  // An hour is longer than retrySeconds.
  await t.rejects(client.submit('idle', {}), { code: 'http-error', retryAfterSeconds: 3600 })
  proxy.choose = () => 'not sent'
  await t.rejects(client.submit('note.create', { text: 'a' }, { timeoutSeconds: 1 }), {
    code: 'timeout',
    cause: { code: 'network-error' },
  })
})

t.test('an error that repeating does not mend is thrown at once', async (t) => {
  const answers: Fault[] = [
    { status: 500 },
    { status: 409, body: '{"error":{"code":"sold-out","message":"Sold out"}}' },
    { status: 302, headers: { location: 'https://example.com/' } },
  ]
  for (const [index, code] of ['http-error', 'sold-out', 'redirected'].entries()) {
    causeInTurn([answers[index] as Fault], ({ url }) => url === '/idle')
    await t.rejects(client.submit('idle', {}), { code })
    t.equal(requestsTo(/idle$/).length, 1)
  }
})

/** Starts a job that reports its progress when the test says so. */
async function startJob(name: string) {
  const steps = [0, 1, 2].map(() => Promise.withResolvers<void>())
  const left = [...steps]
  app.perform(name, async (job) => {
    for (const [index, step] of steps.entries()) {
      await step.promise
      if (index < 2) job.progress((index + 1) * 30)
    }
    return { name }
  })
  proxy.choose = () => undefined
  const job = await client.submit('steered', { name })
  return { job, next: () => left.shift()?.resolve() }
}

/** Watches a job that makes a step whenever the watcher has seen the last one. */
async function watchSteps(name: string, streamFaults: readonly Fault[], using = client) {
  const { job, next } = await startJob(name)
  causeInTurn(streamFaults, isStream)
  const seen: Job[] = []
  for await (const version of using.watch(job, { timeoutSeconds: 45 })) {
    if (version.status === 'running' && version.percentComplete !== seen.at(-1)?.percentComplete) next()
    else if (version.status === 'running' && seen.at(-1)?.status !== 'running') next()
    seen.push(version)
  }
  return seen
}

function assertComplete(t: Test, seen: readonly Job[]): void {
  t.equal(seen.at(-1)?.status, 'succeeded')
  const percents = seen.map(({ percentComplete }) => percentComplete)
  t.ok(
    [30, 60].every((percent) => percents.includes(percent)),
    'every step is seen',
  )
  const sequences = seen.map(({ sequence }) => sequence)
  t.same(
    sequences,
    [...new Set(sequences)].sort((a, b) => a - b),
    'no version twice, and none older',
  )
}

t.test('a stream that breaks is resumed after the last version that was seen', async (t) => {
  const seen = await watchSteps('breaks', ['answer cut'])
  assertComplete(t, seen)
  const ids = requestsTo(/events$/).map(({ headers }) => headers['last-event-id'])
  t.equal(ids.length, 2)
  t.equal(ids[0], undefined)
  t.ok(Number(ids[1]) >= 1)
})

t.test('a version that a broken stream makes the client read again is yielded once', async (t) => {
  causeInTurn(['answer cut'], isStream)
  const job = await client.submit('idle', {})
  const statuses: string[] = []
  const watch = async () => {
    for await (const { status } of client.watch(job, { timeoutSeconds: 45 })) statuses.push(status)
  }
  const watched = watch()
  await until(() => requestsTo(/events$/).length === 2)
  await client.cancel(job)
  await watched
  t.same(statuses, ['queued', 'canceled'])
})

t.test('a stream that cannot be had is replaced by waiting requests', async (t) => {
  const fallbacks: Fault[][] = [
    ['answer lost', 'not sent', 'answer lost'],
    [{ status: 405 }],
    [{ status: 200, body: 'no stream' }],
    ['held back'],
  ]
  const fresh = createClient<typeof operations>(options)
  for (const [index, chosen] of fallbacks.entries()) {
    assertComplete(t, await watchSteps(`falls back ${index}`, chosen, fresh))
    const waits = requestsTo(/jobs\/[^/]+$/).filter(({ headers }) => headers.prefer)
    t.ok(waits.length > 0, JSON.stringify(chosen))
    const isUntilChange = waits.every(({ headers }) => headers['if-none-match'])
    t.ok(isUntilChange, 'without If-None-Match, a request would wait until the job ends')
  }
  const streams = requestsTo(/events$/).length
  await watchSteps('remembered', [], fresh)
  t.equal(streams, 1)
  t.equal(requestsTo(/events$/).length, 0, 'the client has remembered that the proxy holds streams back')
})

t.test(
  'a result is found by a stream if requests cannot wait, and by polls if there is no stream either',
  async (t) => {
    for (const hasStream of [true, false]) {
      const fresh = createClient<typeof operations>(options)
      const { job, next } = await startJob(`result ${hasStream}`)
      proxy.requests.length = 0
      proxy.choose = (request) => (isStream(request) && !hasStream ? { status: 501 } : 'no waiting')
      const result = fresh.result(job, { timeoutSeconds: 45 })
      await until(() => requestsTo(/events$/).length > 0)
      for (let step = 0; step < 3; step++) next()
      t.same(await result, { name: `result ${hasStream}` })
      t.equal(requestsTo(/events$/).length, 1)
      t.equal(
        requestsTo(/jobs\/[^/]+$/).some(({ headers }) => !headers.prefer),
        !hasStream,
      )
    }
  },
)

t.test('a result is found by one request if requests can wait', async (t) => {
  const { job, next } = await startJob('waits')
  proxy.requests.length = 0
  const result = client.result(job, { timeoutSeconds: 45 })
  for (let step = 0; step < 3; step++) next()
  t.same(await result, { name: 'waits' })
  t.equal(proxy.requests.length, 1)
})

t.test('through a proxy with random faults, every job exists once, and every result arrives', async (t) => {
  const before = await app.count('words.count')
  // A linear congruential generator: the faults are the same in each run.
  let seed = 7
  const random = (below: number) => {
    seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31
    return Math.floor((seed / 2 ** 31) * below)
  }
  const others: Fault[] = ['late', 'no waiting']
  const all = [...faults, ...others]
  proxy.choose = () => (random(4) === 0 ? all[random(all.length)] : undefined)
  const one = async (index: number) => {
    const text = 'x '.repeat(index).trim()
    const job = await client.submit('words.count', { text }, { params: { language: 'en' } })
    const versions: Job[] = []
    for await (const version of client.watch(job, { timeoutSeconds: 45 })) versions.push(version)
    t.equal(versions.at(-1)?.status, 'succeeded')
    t.same(await client.result(job), { words: Math.max(index, 1), language: 'en' })
  }
  await Promise.all(Array.from({ length: 30 }, (_, index) => one(index)))
  t.equal(await app.count('words.count'), before + 30)
})

t.test('when the API is replaced by another process, streams and waiting requests go on there', async (t) => {
  proxy.choose = () => undefined
  const { job, next } = await startJob('replaced')
  const seen: Job[] = []
  const isFollowed = Promise.withResolvers<void>()
  const watch = async () => {
    for await (const version of client.watch(job, { timeoutSeconds: 45 })) {
      seen.push(version)
      if (version.status === 'running') isFollowed.resolve()
    }
  }
  proxy.requests.length = 0
  const [watched, result] = [watch(), client.result(job, { timeoutSeconds: 45 })]
  await isFollowed.promise
  const other = await app.startAnother()
  const closed = app.app.close()
  proxy.target = other
  await until(() => requestsTo(/events$/).length > 1)
  for (let step = 0; step < 3; step++) next()
  await closed
  t.same(await result, { name: 'replaced' })
  await watched
  t.equal(seen.at(-1)?.status, 'succeeded')
  t.type(requestsTo(/events$/)[1]?.headers['last-event-id'], 'string')
})
