import { once } from 'node:events'
import { connect } from 'node:net'
import { EventSource } from 'eventsource'
import t, { type Test } from 'tap'
import { start } from '../support/program.ts'
import { until } from '../support/until.ts'
import { type Block, openStream } from './event-stream.ts'
import { config, idAt, serve } from './support.ts'

t.jobs = 6

const service = await serve(t, { apis: 2 })
const { api, apis } = service
const [, otherApi] = apis
const ann = service.as('ann')

/** Opens the event stream of a job. */
const openJobStream = (t: Test, id: string, headers: Record<string, string> = {}, query = '') =>
  openStream(t, `${api.url}/jobs/${id}/events${query}`, { 'x-user': 'ann', ...headers })

/** Opens the event stream of all jobs of a principal. */
const openAllStream = (t: Test, user: string, headers: Record<string, string> = {}, from = api, query = '') =>
  openStream(t, `${from.url}/events${query}`, { 'x-user': user, ...headers })

const isOf = (id: string, status?: string) => (event: Block) =>
  event.event === 'status' && event.data.id === id && (!status || event.data.status === status)

const half = { do: 'progress', percent: 40, message: 'half way' } as const

t.test('the media type of a stream is text/event-stream', async (t) => {
  for (const { status, headers } of [await openJobStream(t, await ann.running()), await openAllStream(t, 'ann')]) {
    t.equal(status, 200)
    t.match(headers.get('content-type'), /^text\/event-stream\b/)
  }
})

t.test('a stream has Cache-Control: no-store, no-transform', async (t) => {
  for (const { headers } of [await openJobStream(t, await ann.running()), await openAllStream(t, 'ann')]) {
    t.equal(headers.get('cache-control'), 'no-store, no-transform')
  }
})

t.test('a stream has X-Accel-Buffering: no', async (t) => {
  for (const { headers } of [await openJobStream(t, await ann.running()), await openAllStream(t, 'ann')]) {
    t.equal(headers.get('x-accel-buffering'), 'no')
  }
})

t.test('a stream sends the field retry: 3000', async (t) => {
  for (const stream of [await openJobStream(t, await ann.running()), await openAllStream(t, 'ann')]) {
    t.ok(await until(() => stream.blocks.some(({ retry }) => retry === '3000')))
  }
})

t.test('while no job changes, a stream sends comments regularly', async (t) => {
  for (const stream of [await openJobStream(t, await ann.running()), await openAllStream(t, 'idle-principal')]) {
    t.ok(await until(() => stream.blocks.filter(({ comment }) => comment !== undefined).length >= 2, 90_000))
    t.notOk(stream.isEnded())
  }
})

/** Estimates change with time. */
const withoutEstimate = ({ estimatedCompletionAt: _, ...monitor }: Record<string, unknown>) => monitor

t.test('a status event carries the full monitor', async (t) => {
  const id = await ann.running()
  const stream = await openJobStream(t, id)
  const { data } = await stream.event(isOf(id))
  t.same(withoutEstimate(data), withoutEstimate(await ann.monitor(id)))
})

t.test('the id of an event is the sequence of the job', async (t) => {
  const id = await ann.running()
  const stream = await openJobStream(t, id)
  await stream.event(isOf(id))
  await service.steer(id, half)
  await stream.event(({ event }) => event === 'progress')
  await service.steer(id, { do: 'succeed' })
  await stream.end()
  t.ok(stream.events().length >= 3)
  for (const { id: eventId, data } of stream.events()) t.equal(eventId, String(data.sequence))
})

t.test('the ids of the events increase', async (t) => {
  const { id } = await ann.submit('/steered', {})
  const stream = await openJobStream(t, id)
  await service.steer(id, half, { do: 'succeed' })
  await stream.end()
  const ids = stream.events().map((event) => Number(event.id))
  t.same(
    ids,
    [...new Set(ids)].sort((a, b) => a - b),
  )
})

t.test('a progress event carries percentComplete, message and sequence', async (t) => {
  const id = await ann.running()
  const stream = await openJobStream(t, id)
  await stream.event(isOf(id, 'running'))
  await service.steer(id, half)
  const { data } = await stream.event(({ event }) => event === 'progress')
  const { sequence } = await ann.monitor(id)
  t.match(data, { percentComplete: 40, message: 'half way', sequence })
})

t.test('a progress event carries estimatedCompletionAt', async (t) => {
  const id = await ann.running()
  const stream = await openJobStream(t, id)
  await stream.event(isOf(id, 'running'))
  await service.steer(id, { do: 'progress', percent: 1 })
  const { data } = await stream.event(({ event }) => event === 'progress')
  t.match(data.estimatedCompletionAt, /^\d{4}-\d\d-\d\dT.*Z$/)
})

t.test('a stream sends every change of a job, and ends after the final event', async (t) => {
  const { id } = await ann.submit('/steered', {})
  const stream = await openJobStream(t, id)
  await stream.event(isOf(id, 'running'))
  await service.steer(id, half)
  await stream.event(({ event }) => event === 'progress')
  await service.steer(id, { do: 'succeed' })
  await stream.end()
  t.same(stream.events().at(-1)?.data, await ann.monitor(id))
  t.equal(stream.events().at(-1)?.event, 'status')
})

for (const jobStatus of ['succeeded', 'failed', 'canceled'] as const) {
  t.test(`the stream of a ${jobStatus} job sends only the final event, and ends`, async (t) => {
    const id = await ann.endedAs(jobStatus)
    const stream = await openJobStream(t, id)
    await stream.end()
    t.equal(stream.status, 200)
    t.same(
      stream.events().map(({ data }) => data.status),
      [jobStatus],
    )
  })

  t.test(`a client that reconnects with the id of the final event of a ${jobStatus} job gets 204`, async (t) => {
    const id = await ann.endedAs(jobStatus)
    const { sequence } = await ann.monitor(id)
    t.equal((await openJobStream(t, id, { 'last-event-id': String(sequence) })).status, 204)
    t.equal((await openJobStream(t, id, {}, `?lastEventId=${sequence}`)).status, 204)
  })
}

t.test('when a job is canceled, its stream sends the status canceled, and ends', async (t) => {
  const { id } = await ann.submit('/idle', { text: 'x' })
  const stream = await openJobStream(t, id)
  await stream.event(isOf(id, 'queued'))
  await ann.post(`/jobs/${id}/cancel`, undefined)
  await stream.event(isOf(id, 'canceled'))
  await stream.end()
  t.pass('ended')
})

for (const [name, resume] of Object.entries({
  'Last-Event-ID': (t: Test, id: string, last: string) => openJobStream(t, id, { 'last-event-id': last }),
  '?lastEventId=': (t: Test, id: string, last: string) => openJobStream(t, id, {}, `?lastEventId=${last}`),
})) {
  t.test(`${name} resumes a stream after the last event, without repeating events`, async (t) => {
    const id = await ann.running()
    const first = await openJobStream(t, id)
    const { id: last } = await first.event(isOf(id, 'running'))
    first.close()
    const stream = await resume(t, id, last as string)
    t.equal(stream.status, 200)
    await service.steer(id, half)
    await stream.event(({ event }) => event === 'progress')
    t.ok(stream.events().every((event) => Number(event.id) > Number(last)))
    await service.steer(id, { do: 'succeed' })
    await stream.event(isOf(id, 'succeeded'))
  })

  t.test(`${name} resumes a stream, and the client receives the final status that it missed`, async (t) => {
    const id = await ann.running()
    const { sequence } = await ann.monitor(id)
    await service.steer(id, { ...half }, { do: 'succeed' })
    const ended = await ann.ended(id)
    const stream = await resume(t, id, String(sequence))
    await stream.end()
    t.same(stream.events().at(-1)?.data, ended)
  })

  for (const [kind, last] of [
    ['too low', '0'],
    ['not a number', 'xyz'],
    ['negative', '-1'],
    ['too high', '999999'],
    ['very long', '9'.repeat(200)],
  ] as const) {
    t.test(`if the id in ${name} is ${kind}, the stream starts with the current status`, async (t) => {
      const id = await ann.running()
      const stream = await resume(t, id, last)
      t.equal(stream.status, 200)
      await until(() => stream.events().length > 0)
      t.match(stream.events()[0], { event: 'status', data: { id, status: 'running' } })
    })
  }
}

t.test('if a job has ended, a client with an invalid Last-Event-ID gets the final event, not 204', async (t) => {
  const id = await ann.endedAs('succeeded')
  const stream = await openJobStream(t, id, { 'last-event-id': 'xyz' })
  t.equal(stream.status, 200)
  await stream.event(isOf(id, 'succeeded'))
})

t.test("a request for the stream of another principal's job or an unknown job gets 404", async (t) => {
  const { id } = await ann.submit('/idle', { text: 'x' })
  t.equal((await openJobStream(t, id, { 'x-user': 'bob' })).status, 404)
  t.equal((await openJobStream(t, idAt(Date.now()))).status, 404)
})

t.test('a request for the stream of a job whose record has expired gets 410', async (t) => {
  const id = await ann.endedAs('canceled')
  await service.expire(id)
  t.equal((await openJobStream(t, id)).status, 410)
})

t.test('a request for a stream without a principal gets 401', async (t) => {
  t.equal((await openAllStream(t, 'nobody')).status, 401)
})

t.test('an EventSource receives all events of a job, and closes after the job has ended', async (t) => {
  const { id } = await ann.submit('/steered', {})
  const source = new EventSource(`${api.url}/jobs/${id}/events`)
  t.teardown(() => source.close())
  const jobStatuses = new Set<string>()
  const progress: number[] = []
  source.addEventListener('status', ({ data }) => jobStatuses.add(JSON.parse(data).status))
  source.addEventListener('progress', ({ data }) => progress.push(JSON.parse(data).percentComplete))
  await until(() => jobStatuses.has('running'))
  await service.steer(id, half)
  await until(() => progress.includes(40))
  await service.steer(id, { do: 'succeed' })
  await until(() => source.readyState === EventSource.CLOSED)
  t.ok(jobStatuses.has('succeeded'))
})

t.test('/events starts with a snapshot of the newest 100 jobs', async (t) => {
  const many = service.as('many')
  const ids: string[] = []
  for (let number = 1; number <= 105; number++) ids.push((await many.submit('/idle', { text: `${number}` })).id)
  const stream = await openAllStream(t, 'many')
  await until(() => stream.events().length >= 100)
  // Once an event of a newer job has arrived, the snapshot is complete.
  const { id: live } = await many.submit('/idle', { text: 'live' })
  await stream.event(isOf(live))
  const receivedIds = stream.events().map(({ data }) => data.id)
  t.same(receivedIds.filter((id) => id !== live).sort(), ids.slice(-100).sort())
})

t.test('the snapshot of /events consists of full monitors', async (t) => {
  const cleo = service.as('cleo')
  const id = await cleo.running()
  const { data } = await (await openAllStream(t, 'cleo')).event(isOf(id))
  // The estimate appears when a worker has written the run time of another job of this operation.
  t.same(withoutEstimate(data), withoutEstimate(await cleo.monitor(id)))
})

t.test('the snapshot of /events leaves out results; the stream of one job does not', async (t) => {
  const lyn = service.as('lyn')
  const { id } = await lyn.submit('/echoes', { text: 'x'.repeat(900_000) })
  const { result, ...summary } = await lyn.ended(id)
  const stream = await openAllStream(t, 'lyn')
  t.same((await stream.event(isOf(id))).data, summary)
  const single = await openJobStream(t, id, { 'x-user': 'lyn' })
  t.same((await single.event(isOf(id))).data, { ...summary, result })
})

t.test('a client that resumes /events gets small missed results, and large ones from the monitor', async (t) => {
  const mae = service.as('mae')
  const first = await openAllStream(t, 'mae')
  const { id: seen } = await mae.submit('/idle', { text: 'seen' })
  const { id: cursor } = await first.event(isOf(seen))
  first.close()
  const { id: small } = await mae.submit('/echoes', { text: 'small' })
  const { id: large } = await mae.submit('/echoes', { text: 'x'.repeat(900_000) })
  for (const id of [small, large]) await mae.ended(id)
  const stream = await openAllStream(t, 'mae', { 'last-event-id': cursor as string })
  t.same((await stream.event(isOf(small))).data, await mae.monitor(small))
  t.equal('result' in (await stream.event(isOf(large))).data, false)
  t.equal((await mae.monitor(large)).result.text.length, 900_000)
})

t.test('after the snapshot, /events sends new jobs and all their changes', async (t) => {
  const dora = service.as('dora')
  const stream = await openAllStream(t, 'dora')
  const id = await dora.running()
  await stream.event(isOf(id, 'running'))
  await service.steer(id, half)
  await stream.event(({ event, data }) => event === 'progress' && data.percentComplete === 40)
  await service.steer(id, { do: 'succeed' })
  const { data } = await stream.event(isOf(id, 'succeeded'))
  t.same(data, await dora.monitor(id))
  t.notOk(stream.isEnded(), 'the stream stays open after a job has ended')
})

t.test('/events sends jobs that another API process has accepted', async (t) => {
  const stream = await openAllStream(t, 'eve', {}, api)
  const { id } = await service.as('eve', otherApi).submit('/notes', { text: 'x' })
  await stream.event(isOf(id, 'succeeded'))
  t.pass('received')
})

t.test('/events sends only the jobs of the caller', async (t) => {
  const fred = service.as('fred')
  const stream = await openAllStream(t, 'fred')
  const { id: theirs } = await service.as('gina').submit('/idle', { text: 'x' })
  const { id } = await fred.submit('/idle', { text: 'x' })
  await stream.event(isOf(id))
  t.notOk(stream.events().some(({ data }) => data.id === theirs))
})

t.test(
  'every event of /events has a cursor as its id, and the cursor can resume the stream on another API process',
  async (t) => {
    const hugo = service.as('hugo')
    const first = await openAllStream(t, 'hugo')
    const { id: seen } = await hugo.submit('/idle', { text: 'seen' })
    const { id: cursor } = await first.event(isOf(seen))
    t.ok(first.events().every((event) => event.id))
    first.close()
    const { id: missed } = await hugo.submit('/idle', { text: 'missed' })
    const { id: canceled } = await hugo.submit('/idle', { text: 'missed, too' })
    await hugo.post(`/jobs/${canceled}/cancel`, undefined)
    for (const stream of [
      await openAllStream(t, 'hugo', { 'last-event-id': cursor as string }, otherApi),
      await openAllStream(t, 'hugo', {}, otherApi, `?lastEventId=${encodeURIComponent(cursor as string)}`),
    ]) {
      await stream.event(isOf(missed))
      await stream.event(isOf(canceled, 'canceled'))
      const { id: live } = await hugo.submit('/idle', { text: 'live' })
      await stream.event(isOf(live))
    }
  },
)

t.test('a client that resumes /events with the newest cursor does not receive the snapshot again', async (t) => {
  const ida = service.as('ida')
  const { id: old } = await ida.submit('/idle', { text: 'old' })
  const { id: recent } = await ida.submit('/idle', { text: 'recent' })
  const [{ xid }] = (await service.pool.query('select pg_current_xact_id()::text as xid')).rows
  // A stream sends changes again while a transaction is in progress that began before them, also in another database.
  await until(async () => {
    const text = 'select pg_snapshot_xmin(pg_current_snapshot()) >= $1::xid8 as is_past'
    return (await service.pool.query(text, [xid])).rows[0].is_past
  })
  const first = await openAllStream(t, 'ida')
  await first.event(isOf(old))
  // Only polls find these changes. The cursor of the second event has the position of the first poll, which has passed
  // the change of the old job.
  const change = async (message: string) => {
    await service.pool.query(
      'update accepted.job set message = $2, sequence = sequence + 1, updated_at = now() where id = $1',
      [recent, message],
    )
    return first.event((event) => isOf(recent)(event) && event.data.message === message)
  }
  await change('first')
  const { id: cursor } = await change('second')
  const stream = await openAllStream(t, 'ida', { 'last-event-id': cursor as string })
  const { id: live } = await ida.submit('/idle', { text: 'live' })
  await stream.event(isOf(live))
  t.notOk(stream.events().some(isOf(old)))
})

t.test('a request for a stream succeeds even if the parameter lastEventId is repeated', async (t) => {
  const id = await ann.running()
  for (const path of [`/jobs/${id}/events`, '/events']) {
    t.equal((await openStream(t, `${api.url}${path}?lastEventId=a&lastEventId=b`, { 'x-user': 'ann' })).status, 200)
  }
})

t.test(
  'if a client is disconnected in the middle of the snapshot, it receives the missing jobs when it resumes',
  async (t) => {
    const jim = service.as('jim')
    const ids: string[] = []
    for (let number = 0; number < 5; number++) ids.push((await jim.submit('/idle', { text: `${number}` })).id)
    // After this, the order of the changes differs from the order of the snapshot.
    await jim.post(`/jobs/${ids[0]}/cancel`, undefined)
    const first = await openAllStream(t, 'jim')
    const { id: cursor } = await first.event(isOf(ids[0] as string))
    await first.event(isOf(ids[4] as string))
    first.close()
    const stream = await openAllStream(t, 'jim', { 'last-event-id': cursor as string })
    for (const id of ids.slice(1)) await stream.event(isOf(id))
    t.equal(stream.status, 200)
  },
)

t.test(
  'if a client with thousands of jobs resumes /events, it receives a missed change of its oldest job',
  async (t) => {
    const kay = service.as('kay')
    const { id: oldest } = await kay.submit('/idle', { text: 'the first' })
    // They have ended. Otherwise the reconciler fails them, because they are not in the queue. Without triggers, the
    // insert is not in accepted.change. Otherwise the cursor may be from before it, and then all of them are missed.
    await service.pool.query(`
      begin;
      set local session_replication_role = replica;
      insert into accepted.job (id, operation, principal, max_attempts, expires_at, updated_at, status, ended_at)
      select accepted.uuid7(), operation, principal, max_attempts, expires_at, updated_at - interval '1 hour',
        'succeeded', updated_at
      from accepted.job, generate_series(1, 3000) where id = '${oldest}';
      commit`)
    const first = await openAllStream(t, 'kay')
    const { id: newest } = await kay.submit('/idle', { text: 'the last' })
    const { id: cursor } = await first.event(isOf(newest))
    first.close()
    await kay.post(`/jobs/${oldest}/cancel`, undefined)
    const stream = await openAllStream(t, 'kay', { 'last-event-id': cursor as string })
    await stream.event(isOf(oldest, 'canceled'))
  },
)

t.test('if a client disconnects before the response, the API keeps no stream open', async (t) => {
  const id = await ann.running()
  const freshApi = await start(t, 'api', { config, databaseUrl: service.databaseUrl })
  const observer = service.as('ann', freshApi)
  const metrics = async () => (await service.as('ops', freshApi).get('/metrics')).text
  const { hostname, port } = new URL(freshApi.url)
  for (const path of [`/jobs/${id}/events`, '/events']) {
    for (let number = 0; number < 50; number++) {
      const socket = connect(Number(port), hostname)
      socket.on('error', () => {})
      await once(socket, 'connect')
      socket.end(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nX-User: ann\r\nAccept: text/event-stream\r\n\r\n`, () =>
        socket.destroy(),
      )
    }
  }
  t.equal((await observer.get(`/jobs/${id}`)).status, 200)
  await until(async () => /^accepted_event_streams\S* 0$/m.test(await metrics()))
  t.match(await metrics(), /^accepted_watched_jobs\S* 0$/m)
})

for (const cursor of ['xyz', '0', '9'.repeat(300), '%00', 'e30']) {
  t.test(`/events starts with a snapshot if the cursor is invalid: ${cursor.slice(0, 9)}`, async (t) => {
    const user = `invalid ${cursor.slice(0, 9)}`
    const { id } = await service.as(user).submit('/idle', { text: 'x' })
    const byHeader = await openAllStream(t, user, { 'last-event-id': cursor })
    await byHeader.event(isOf(id))
    const byQuery = await openAllStream(t, user, {}, api, `?lastEventId=${cursor}`)
    await byQuery.event(isOf(id))
    t.same([byHeader.status, byQuery.status], [200, 200])
  })
}

t.test('when a process shuts down, it ends each of its streams with a random retry time', async (t) => {
  const draining = await start(t, 'api', { config, databaseUrl: service.databaseUrl })
  const { id } = await service.as('ann', draining).submit('/idle', { text: 'x' })
  const urls = Array.from({ length: 20 }, (_, n) => `${draining.url}${n % 2 ? '/events' : `/jobs/${id}/events`}`)
  const streams = await Promise.all(urls.map((url) => openStream(t, url, { 'x-user': 'ann' })))
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
  t.ok(new Set(waits).size > 1, 'the times differ')
  t.equal(await ended, 0)
})
