import { once } from 'node:events'
import { connect } from 'node:net'
import { EventSource } from 'eventsource'
import t, { type Test } from 'tap'
import { start } from '../support/program.ts'
import { until } from '../support/until.ts'
import { type Block, listen } from './event-stream.ts'
import { config, idAt, serve } from './support.ts'

t.jobs = 6

const service = await serve(t, { apis: 2 })
const { api, apis } = service
const [, otherApi] = apis
const ann = service.as('ann')

/** The events of a job. */
const listenToJob = (t: Test, id: string, headers: Record<string, string> = {}, query = '') =>
  listen(t, `${api.url}/jobs/${id}/events${query}`, { 'x-user': 'ann', ...headers })

/** The events of all jobs of somebody. */
const listenToAll = (t: Test, user: string, headers: Record<string, string> = {}, from = api, query = '') =>
  listen(t, `${from.url}/events${query}`, { 'x-user': user, ...headers })

const isOf = (id: string, status?: string) => (event: Block) =>
  event.event === 'status' && event.data.id === id && (!status || event.data.status === status)

const half = { do: 'progress', percent: 40, message: 'half way' } as const

t.test('the stream is text/event-stream', async (t) => {
  for (const { status, headers } of [await listenToJob(t, await ann.running()), await listenToAll(t, 'ann')]) {
    t.equal(status, 200)
    t.match(headers.get('content-type'), /^text\/event-stream\b/)
  }
})

t.test('the stream has Cache-Control: no-store, no-transform', async (t) => {
  for (const { headers } of [await listenToJob(t, await ann.running()), await listenToAll(t, 'ann')]) {
    t.equal(headers.get('cache-control'), 'no-store, no-transform')
  }
})

t.test('the stream has X-Accel-Buffering: no', async (t) => {
  for (const { headers } of [await listenToJob(t, await ann.running()), await listenToAll(t, 'ann')]) {
    t.equal(headers.get('x-accel-buffering'), 'no')
  }
})

t.test('the stream says retry: 3000', async (t) => {
  for (const stream of [await listenToJob(t, await ann.running()), await listenToAll(t, 'ann')]) {
    t.ok(await until(() => stream.blocks.some(({ retry }) => retry === '3000')))
  }
})

t.test('a quiet stream has a comment, again and again', async (t) => {
  for (const stream of [await listenToJob(t, await ann.running()), await listenToAll(t, 'quiet-one')]) {
    t.ok(await until(() => stream.blocks.filter(({ comment }) => comment !== undefined).length >= 2))
    t.notOk(stream.isEnded())
  }
})

t.test('an event of name status is the full monitor', async (t) => {
  const id = await ann.running()
  const stream = await listenToJob(t, id)
  const { data } = await stream.event(isOf(id))
  t.same(data, await ann.monitor(id))
})

t.test('the id of an event is the sequence', async (t) => {
  const id = await ann.running()
  const stream = await listenToJob(t, id)
  await stream.event(isOf(id))
  await service.steer(id, half)
  await stream.event(({ event }) => event === 'progress')
  await service.steer(id, { do: 'succeed' })
  await stream.end()
  t.ok(stream.events().length >= 3)
  for (const { id: eventId, data } of stream.events()) t.equal(eventId, String(data.sequence))
})

t.test('the ids of the events grow', async (t) => {
  const { id } = await ann.submit('/steered', {})
  const stream = await listenToJob(t, id)
  await service.steer(id, half, { do: 'succeed' })
  await stream.end()
  const ids = stream.events().map((event) => Number(event.id))
  t.same(
    ids,
    [...new Set(ids)].sort((a, b) => a - b),
  )
})

t.test('an event of name progress says percentComplete, message and sequence', async (t) => {
  const id = await ann.running()
  const stream = await listenToJob(t, id)
  await stream.event(isOf(id, 'running'))
  await service.steer(id, half)
  const { data } = await stream.event(({ event }) => event === 'progress')
  const { sequence } = await ann.monitor(id)
  t.match(data, { percentComplete: 40, message: 'half way', sequence })
})

t.test('an event of name progress says estimatedCompletionAt, as the job has a rate now', async (t) => {
  const id = await ann.running()
  const stream = await listenToJob(t, id)
  await stream.event(isOf(id, 'running'))
  await service.steer(id, { do: 'progress', percent: 1 })
  const { data } = await stream.event(({ event }) => event === 'progress')
  t.match(data.estimatedCompletionAt, /^\d{4}-\d\d-\d\dT.*Z$/)
})

t.test('the whole life of a job is told, and after the terminal event the stream ends', async (t) => {
  const { id } = await ann.submit('/steered', {})
  const stream = await listenToJob(t, id)
  await stream.event(isOf(id, 'running'))
  await service.steer(id, half)
  await stream.event(({ event }) => event === 'progress')
  await service.steer(id, { do: 'succeed' })
  await stream.end()
  t.same(stream.events().at(-1)?.data, await ann.monitor(id))
  t.equal(stream.events().at(-1)?.event, 'status')
})

for (const state of ['succeeded', 'failed', 'canceled'] as const) {
  t.test(`the stream of a job that has ${state === 'canceled' ? 'been ' : ''}${state} tells so and ends`, async (t) => {
    const id = await ann.endedAs(state)
    const stream = await listenToJob(t, id)
    await stream.end()
    t.equal(stream.status, 200)
    t.same(
      stream.events().map(({ data }) => data.status),
      [state],
    )
  })

  t.test(`a reconnect carrying the terminal id of a ${state} job gets 204`, async (t) => {
    const id = await ann.endedAs(state)
    const { sequence } = await ann.monitor(id)
    t.equal((await listenToJob(t, id, { 'last-event-id': String(sequence) })).status, 204)
    t.equal((await listenToJob(t, id, {}, `?lastEventId=${sequence}`)).status, 204)
  })
}

t.test('a job that is canceled while somebody listens: told, and the stream ends', async (t) => {
  const { id } = await ann.submit('/idle', { text: 'x' })
  const stream = await listenToJob(t, id)
  await stream.event(isOf(id, 'queued'))
  await ann.post(`/jobs/${id}/cancel`, undefined)
  await stream.event(isOf(id, 'canceled'))
  await stream.end()
  t.pass('ended')
})

for (const [what, ask] of Object.entries({
  'Last-Event-ID': (t: Test, id: string, last: string) => listenToJob(t, id, { 'last-event-id': last }),
  '?lastEventId=': (t: Test, id: string, last: string) => listenToJob(t, id, {}, `?lastEventId=${last}`),
})) {
  t.test(`${what} resumes: what was told is not told again, and what comes is`, async (t) => {
    const id = await ann.running()
    const first = await listenToJob(t, id)
    const { id: last } = await first.event(isOf(id, 'running'))
    first.close()
    const stream = await ask(t, id, last as string)
    t.equal(stream.status, 200)
    await service.steer(id, half)
    await stream.event(({ event }) => event === 'progress')
    t.ok(stream.events().every((event) => Number(event.id) > Number(last)))
    await service.steer(id, { do: 'succeed' })
    await stream.event(isOf(id, 'succeeded'))
  })

  t.test(`${what} resumes: what was missed is told`, async (t) => {
    const id = await ann.running()
    const { sequence } = await ann.monitor(id)
    await service.steer(id, { ...half }, { do: 'succeed' })
    const ended = await ann.ended(id)
    const stream = await ask(t, id, String(sequence))
    await stream.end()
    t.same(stream.events().at(-1)?.data, ended)
  })

  for (const [kind, last] of [
    ['too old', '0'],
    ['garbage', 'xyz'],
    ['of another kind', '-1'],
    ['of no sequence yet', '999999'],
    ['very long', '9'.repeat(200)],
  ] as const) {
    t.test(`${what} that is ${kind} gets a fresh snapshot`, async (t) => {
      const id = await ann.running()
      const stream = await ask(t, id, last)
      t.equal(stream.status, 200)
      await until(() => stream.events().length > 0)
      t.match(stream.events()[0], { event: 'status', data: { id, status: 'running' } })
    })
  }
}

t.test('garbage for a job that has ended gets the terminal event, not 204', async (t) => {
  const id = await ann.endedAs('succeeded')
  const stream = await listenToJob(t, id, { 'last-event-id': 'xyz' })
  t.equal(stream.status, 200)
  await stream.event(isOf(id, 'succeeded'))
})

t.test("someone else's job, and one that is unknown: 404", async (t) => {
  const { id } = await ann.submit('/idle', { text: 'x' })
  t.equal((await listenToJob(t, id, { 'x-user': 'bob' })).status, 404)
  t.equal((await listenToJob(t, idAt(Date.now()))).status, 404)
})

t.test('a job whose record has expired: 410', async (t) => {
  const id = await ann.endedAs('canceled')
  await service.expire(id)
  t.equal((await listenToJob(t, id)).status, 410)
})

t.test('without a principal: 401', async (t) => {
  t.equal((await listenToAll(t, 'nobody')).status, 401)
})

t.test("a browser's EventSource, unmodified, is told everything and stops after the end", async (t) => {
  const { id } = await ann.submit('/steered', {})
  const source = new EventSource(`${api.url}/jobs/${id}/events`)
  t.teardown(() => source.close())
  const states = new Set<string>()
  const progress: number[] = []
  source.addEventListener('status', ({ data }) => states.add(JSON.parse(data).status))
  source.addEventListener('progress', ({ data }) => progress.push(JSON.parse(data).percentComplete))
  await until(() => states.has('running'))
  await service.steer(id, half)
  await until(() => progress.includes(40))
  await service.steer(id, { do: 'succeed' })
  await until(() => source.readyState === EventSource.CLOSED)
  t.ok(states.has('succeeded'))
})

t.test('/events starts with a snapshot of the newest 100 jobs', async (t) => {
  const many = service.as('many')
  const ids: string[] = []
  for (let number = 1; number <= 105; number++) ids.push((await many.submit('/idle', { text: `${number}` })).id)
  const stream = await listenToAll(t, 'many')
  await until(() => stream.events().length >= 100)
  // What comes after the snapshot shows that the snapshot is over.
  const { id: live } = await many.submit('/idle', { text: 'live' })
  await stream.event(isOf(live))
  const told = stream.events().map(({ data }) => data.id)
  t.same(told.filter((id) => id !== live).sort(), ids.slice(-100).sort())
})

t.test('/events: the snapshot is of full monitors', async (t) => {
  const cleo = service.as('cleo')
  const id = await cleo.running()
  const { data } = await (await listenToAll(t, 'cleo')).event(isOf(id))
  t.same(data, await cleo.monitor(id))
})

t.test('/events goes live: a new job and what becomes of it', async (t) => {
  const dora = service.as('dora')
  const stream = await listenToAll(t, 'dora')
  const id = await dora.running()
  await stream.event(isOf(id, 'running'))
  await service.steer(id, half)
  await stream.event(({ event, data }) => event === 'progress' && data.percentComplete === 40)
  await service.steer(id, { do: 'succeed' })
  const { data } = await stream.event(isOf(id, 'succeeded'))
  t.same(data, await dora.monitor(id))
  t.notOk(stream.isEnded(), 'the end of a job is not the end of the stream')
})

t.test('/events: jobs that another API process has accepted are told as well', async (t) => {
  const stream = await listenToAll(t, 'eve', {}, api)
  const { id } = await service.as('eve', otherApi).submit('/notes', { text: 'x' })
  await stream.event(isOf(id, 'succeeded'))
  t.pass('told')
})

t.test("/events: of the caller's jobs only", async (t) => {
  const fred = service.as('fred')
  const stream = await listenToAll(t, 'fred')
  const { id: theirs } = await service.as('gina').submit('/idle', { text: 'x' })
  const { id } = await fred.submit('/idle', { text: 'x' })
  await stream.event(isOf(id))
  t.notOk(stream.events().some(({ data }) => data.id === theirs))
})

t.test('/events: every event has a cursor for its id, and one resumes on another API process', async (t) => {
  const hugo = service.as('hugo')
  const first = await listenToAll(t, 'hugo')
  const { id: seen } = await hugo.submit('/idle', { text: 'seen' })
  const { id: cursor } = await first.event(isOf(seen))
  t.ok(first.events().every((event) => event.id))
  first.close()
  const { id: missed } = await hugo.submit('/idle', { text: 'missed' })
  const { id: canceled } = await hugo.submit('/idle', { text: 'missed, too' })
  await hugo.post(`/jobs/${canceled}/cancel`, undefined)
  for (const stream of [
    await listenToAll(t, 'hugo', { 'last-event-id': cursor as string }, otherApi),
    await listenToAll(t, 'hugo', {}, otherApi, `?lastEventId=${encodeURIComponent(cursor as string)}`),
  ]) {
    await stream.event(isOf(missed))
    await stream.event(isOf(canceled, 'canceled'))
    const { id: live } = await hugo.submit('/idle', { text: 'live' })
    await stream.event(isOf(live))
  }
})

t.test('/events: one that resumes with the newest cursor is not given the snapshot again', async (t) => {
  const ida = service.as('ida')
  const { id: old } = await ida.submit('/idle', { text: 'old' })
  // Longer ago than any transaction takes.
  await service.pool.query(
    "update accepted.job set updated_at = updated_at - interval '1 h', created_at = created_at - interval '1 h' where id = $1",
    [old],
  )
  const { id: recent } = await ida.submit('/idle', { text: 'recent' })
  const first = await listenToAll(t, 'ida')
  await first.event(isOf(old))
  const { id: cursor } = await first.event(isOf(recent))
  const stream = await listenToAll(t, 'ida', { 'last-event-id': cursor as string })
  const { id: live } = await ida.submit('/idle', { text: 'live' })
  await stream.event(isOf(live))
  t.notOk(stream.events().some(isOf(old)))
})

t.test('lastEventId that is there twice is no reason to refuse a stream', async (t) => {
  const id = await ann.running()
  for (const path of [`/jobs/${id}/events`, '/events']) {
    t.equal((await listen(t, `${api.url}${path}?lastEventId=a&lastEventId=b`, { 'x-user': 'ann' })).status, 200)
  }
})

t.test('/events: one that was cut off in the middle of the snapshot is told of all of it', async (t) => {
  const jim = service.as('jim')
  const ids: string[] = []
  for (let number = 0; number < 5; number++) ids.push((await jim.submit('/idle', { text: `${number}` })).id)
  // Changed in another order than that of the snapshot.
  await jim.post(`/jobs/${ids[0]}/cancel`, undefined)
  const first = await listenToAll(t, 'jim')
  const { id: cursor } = await first.event(isOf(ids[0] as string))
  await first.event(isOf(ids[4] as string))
  first.close()
  const stream = await listenToAll(t, 'jim', { 'last-event-id': cursor as string })
  for (const id of ids.slice(1)) await stream.event(isOf(id))
  t.equal(stream.status, 200)
})

t.test('/events: a resuming client is told of the oldest of very many jobs', async (t) => {
  const kay = service.as('kay')
  const { id: oldest } = await kay.submit('/idle', { text: 'the first' })
  await service.pool.query(
    `insert into accepted.job (id, operation, principal, max_attempts, expires_at, updated_at)
    select gen_random_uuid(), operation, principal, max_attempts, expires_at, updated_at - interval '1 hour'
    from accepted.job, generate_series(1, 3000) where id = $1`,
    [oldest],
  )
  const first = await listenToAll(t, 'kay')
  const { id: newest } = await kay.submit('/idle', { text: 'the last' })
  const { id: cursor } = await first.event(isOf(newest))
  first.close()
  await kay.post(`/jobs/${oldest}/cancel`, undefined)
  const stream = await listenToAll(t, 'kay', { 'last-event-id': cursor as string })
  await stream.event(isOf(oldest, 'canceled'))
})

t.test('streams whose clients left before there was an answer are not kept', async (t) => {
  const id = await ann.running()
  const quiet = await start(t, 'api', { config, databaseUrl: service.databaseUrl })
  const observer = service.as('ann', quiet)
  const metrics = async () => (await observer.get('/metrics')).text
  const { hostname, port } = new URL(quiet.url)
  for (const path of [`/jobs/${id}/events`, '/events']) {
    for (let number = 0; number < 50; number++) {
      const socket = connect(Number(port), hostname)
      socket.on('error', () => {})
      await once(socket, 'connect')
      socket.end(`GET ${path} HTTP/1.1\r\nHost: x\r\nX-User: ann\r\nAccept: text/event-stream\r\n\r\n`, () =>
        socket.destroy(),
      )
    }
  }
  t.equal((await observer.get(`/jobs/${id}`)).status, 200)
  await until(async () => /^accepted_event_streams\S* 0$/m.test(await metrics()))
  t.match(await metrics(), /^accepted_watched_jobs\S* 0$/m)
})

for (const cursor of ['xyz', '0', '9'.repeat(300), '%00', 'e30']) {
  t.test(`/events: a cursor that is garbage gets a fresh snapshot: ${cursor.slice(0, 9)}`, async (t) => {
    const user = `garbage ${cursor.slice(0, 9)}`
    const { id } = await service.as(user).submit('/idle', { text: 'x' })
    const byHeader = await listenToAll(t, user, { 'last-event-id': cursor })
    await byHeader.event(isOf(id))
    const byQuery = await listenToAll(t, user, {}, api, `?lastEventId=${cursor}`)
    await byQuery.event(isOf(id))
    t.same([byHeader.status, byQuery.status], [200, 200])
  })
}

t.test('when draining: 200, retry with jitter, close', async (t) => {
  const draining = await start(t, 'api', { config, databaseUrl: service.databaseUrl })
  const { id } = await service.as('ann', draining).submit('/idle', { text: 'x' })
  const urls = Array.from({ length: 20 }, (_, n) => `${draining.url}${n % 2 ? '/events' : `/jobs/${id}/events`}`)
  const streams = await Promise.all(urls.map((url) => listen(t, url, { 'x-user': 'ann' })))
  await Promise.all(streams.map((stream) => stream.event(isOf(id))))
  const ended = draining.end('SIGTERM')
  const waits: number[] = []
  for (const stream of streams) {
    await stream.end()
    t.equal(stream.status, 200)
    waits.push(Number(stream.blocks.at(-1)?.retry))
  }
  t.ok(
    waits.every((wait) => Number.isInteger(wait) && wait > 0),
    `${waits}`,
  )
  t.ok(new Set(waits).size > 1, 'not all at once')
  t.equal(await ended, 0)
})
