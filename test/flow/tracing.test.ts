import { context, trace } from '@opentelemetry/api'
import { defineOperation, type Operation } from 'accepted'
import { defineHandlers, JobFailed, RetryAfter } from 'accepted/worker'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { v7 as uuid7 } from 'uuid'
import { enqueue } from '../../src/jobs/enqueue.ts'
import { createEndpoint } from '../../src/jobs/webhook-endpoint.ts'
import { serve } from '../support/api.ts'
import { ended, get, post } from '../support/client.ts'
import { openJobs } from '../support/jobs.ts'
import { startReceiver } from '../support/receiver.ts'
import { type Finished, recordSpans, startOwnSpan } from '../support/spans.ts'
import { Word } from '../worker/support.ts'

const route = (name: string) => ({ method: 'POST', url: `/${name}` }) as const
const retry = { limit: 1, delaySeconds: 0, backoff: false }

const say = defineOperation({
  ...{ name: 'word.say', route: route('say'), input: Word, retry },
  accept: async (_trx, entries) => {
    startOwnSpan('query of accept')
    return entries.map(({ input }) => ({ payload: input }))
  },
})
const note = defineOperation({ name: 'word.note', route: route('note'), input: Word, retry })
const count = defineOperation({ name: 'word.count', input: Word })
const operations = { say, note, count }

const spans = recordSpans()

/** Serves the API and runs a worker, both in this process. */
async function setUp(t: Test) {
  const lines: Record<string, unknown>[] = []
  const log = pino({}, { write: (line: string) => void lines.push(JSON.parse(line)) })
  const api = await serve(t, { operations, authenticate: () => ({ principal: 'ann' }) })
  const jobs = await openJobs(t, Object.values(operations) as Operation[], api.database.options.url)
  const postponed = new Set<string>()
  const handlers = defineHandlers(operations, {
    'word.say': {
      perform: async ({ id, payload: { word }, attempt, traceparent, log }) => {
        startOwnSpan('call of perform')
        log.info({ traceparent }, 'said')
        if (word === 'again' && attempt === 1) throw new Error('The secret of the handler')
        if (word === 'later' && !postponed.has(id)) {
          postponed.add(id)
          throw new RetryAfter(0)
        }
        if (word === 'no') throw new JobFailed('no-luck', 'No luck')
      },
      settle: async (trx, all) => {
        startOwnSpan('query of settle')
        for (const job of all) if (job.payload.word === 'follow') await job.enqueue(trx, count, { word: 'x' })
      },
    },
    'word.note': {
      settle: async (_trx, all) => {
        startOwnSpan('query of a batch')
        if (all.some(({ payload }) => payload.word === 'bad')) throw new JobFailed('bad-word', 'A bad word')
      },
    },
    'word.count': { settle: async () => {} },
  })
  return {
    ...{ api, jobs, lines },
    work: () => jobs.work(handlers, { log, webhookAllow: ['127.0.0.0/8'] }),
  }
}

/** Returns the spans of a trace by their names. */
const traceOf = (traceId: string) =>
  Map.groupBy(
    spans.all().filter((span) => span.traceId === traceId),
    ({ name }) => name,
  )

const hex = (length: number) => uuid7().replaceAll('-', '').slice(-length).padStart(length, '1')

t.test('tracing', async (t) => {
  const { api, jobs, lines, work } = await setUp(t)
  await work()

  t.test('one trace leads from the POST over accept, perform, settle and a follow-up job to the webhook', async (t) => {
    const receiver = await startReceiver(t)
    const { id: endpoint } = await jobs.database.kysely
      .transaction()
      // The end of the follow-up job is not delivered.
      .execute((trx) => createEndpoint(trx, { url: receiver.url, operations: ['word.say'] }))
    const traceId = hex(32)
    const client = hex(16)
    const headers = {
      traceparent: `00-${traceId}-${client}-01`,
      tracestate: 'vendor=a,other=b',
      'accepted-webhook': endpoint,
    }
    const { body } = await post(`${api.url}/say`, { word: 'follow' }, headers)
    const [delivery] = await receiver.arrived(1)
    await spans.finished('process webhook.deliver')
    await spans.finished('process word.count', (span) => span.traceId === traceId)
    const byName = traceOf(traceId)
    const one = (name: string, ofSame = 0): Finished => {
      const found = byName.get(name)?.[ofSame]
      if (!found) throw new Error(`no span ${name} in ${[...byName.keys()]}`)
      return found
    }
    const send = one('send word.say')
    t.match(send, { kind: 'PRODUCER', parent: client, isFailed: false })
    t.match(send.attributes, {
      'messaging.system': 'accepted',
      'messaging.operation.name': 'send',
      'messaging.operation.type': 'send',
      'messaging.destination.name': 'word.say',
      'messaging.message.id': body.id,
      'accepted.outcome': 'accepted',
    })
    t.match(one('accept word.say'), { kind: 'INTERNAL', parent: send.spanId })
    t.equal(one('query of accept').parent, one('accept word.say').spanId)
    const process = one('process word.say')
    t.match(process, { kind: 'CONSUMER', parent: send.spanId, links: [send.spanId], isFailed: false })
    t.match(process.attributes, {
      'messaging.operation.type': 'process',
      'messaging.message.id': body.id,
      'accepted.attempt': 1,
      'accepted.max_attempts': 2,
      'accepted.outcome': 'succeeded',
    })
    t.equal(one('perform word.say').parent, process.spanId)
    t.equal(one('call of perform').parent, one('perform word.say').spanId)
    const settle = one('settle word.say')
    t.equal(settle.parent, process.spanId)
    t.equal(one('query of settle').parent, settle.spanId)
    t.ok(process.startedAt <= one('perform word.say').startedAt && settle.endedAt <= process.endedAt)
    t.match(one('send word.count'), { kind: 'PRODUCER', parent: settle.spanId })
    t.equal(one('process word.count').parent, one('send word.count').spanId)
    t.equal(one('process webhook.deliver').parent, send.spanId)
    const { spanId } = one('perform webhook.deliver')
    t.match(delivery?.headers, { traceparent: `00-${traceId}-${spanId}-01`, tracestate: 'vendor=a,other=b' })
    t.match(
      lines.find(({ msg, job }) => msg === 'said' && job === body.id),
      {
        trace_id: traceId,
        span_id: one('perform word.say').spanId,
        traceparent: new RegExp(one('perform word.say').spanId),
      },
    )
  })

  t.test('each attempt has a span with its error, and what a handler asks for is no error', async (t) => {
    const attemptsOf = async (word: string, count: number) => {
      const { body } = await post(`${api.url}/say`, { word })
      const monitor = await ended(body.links.self)
      await spans.finished('process word.say', (span) => {
        const { attributes } = span
        return attributes['messaging.message.id'] === body.id && attributes['accepted.outcome'] !== 'retried'
      })
      const attempts = spans
        .all()
        .filter(({ name, attributes }) => name === 'process word.say' && attributes['messaging.message.id'] === body.id)
      t.equal(attempts.length, count)
      t.equal(new Set(attempts.map(({ parent }) => parent)).size, 1, 'the attempts have the same parent')
      return { monitor, attempts: attempts.toSorted((a, b) => a.startedAt - b.startedAt), id: body.id }
    }
    const again = await attemptsOf('again', 2)
    t.match(again.attempts, [
      {
        isFailed: true,
        exceptions: ['The secret of the handler'],
        attributes: { 'accepted.outcome': 'retried', 'accepted.attempt': 1, 'error.type': 'handler-error' },
      },
      { isFailed: false, exceptions: [], attributes: { 'accepted.outcome': 'succeeded', 'accepted.attempt': 2 } },
    ])
    t.notMatch(JSON.stringify(again.monitor), 'secret')
    t.match(
      lines.find(({ job, msg }) => job === again.id && `${msg}`.startsWith('Attempt failed')),
      { trace_id: again.attempts[0]?.traceId },
    )
    const later = await attemptsOf('later', 2)
    t.match(later.attempts, [{ isFailed: false, exceptions: [], attributes: { 'accepted.outcome': 'retried' } }, {}])
    const failed = await attemptsOf('no', 1)
    t.match(failed.attempts, [
      { isFailed: true, attributes: { 'accepted.outcome': 'failed', 'error.type': 'no-luck' } },
    ])
  })

  t.test('a transaction of several jobs has a span that is linked with the spans of the jobs', async (t) => {
    const senders = [1, 2, 3].map((index) => ({ traceId: hex(31) + index, spanId: hex(15) + index }))
    const added = senders.map(({ traceId, spanId }, index) => ({
      ...{ id: uuid7(), operation: note, payload: { word: index === 2 ? 'bad' : 'x' }, principal: 'ann' },
      traceparent: `00-${traceId}-${spanId}-01`,
    }))
    await jobs.database.kysely.transaction().execute((trx) => enqueue(jobs.boss, trx, added))
    for (const { id } of added) await jobs.ended(id)
    const [processed, settled] = await Promise.all([
      Promise.all(
        senders.map(({ traceId }) => spans.finished('process word.note', (span) => span.traceId === traceId)),
      ),
      spans.finished('settle word.note', ({ attributes }) => attributes['messaging.batch.message_count'] === 3),
    ])
    t.match(processed, [{ isFailed: false }, { isFailed: false }, { isFailed: true }])
    t.same(
      processed.map(({ parent }) => parent),
      senders.map(({ spanId }) => spanId),
    )
    t.match(settled, { parent: undefined, isFailed: true, exceptions: ['A bad word'] })
    t.same(new Set(settled.links), new Set(processed.map(({ spanId }) => spanId)))
    const ofJobs = spans
      .all()
      .filter(({ name, links }) => name === 'settle word.note' && links.includes(settled.spanId))
    t.same(new Set(ofJobs.map(({ parent }) => parent)), new Set(settled.links))
    t.ok(
      spans.all().some(({ name, parent }) => name === 'query of a batch' && parent === settled.spanId),
      'the handler runs within the span that the jobs share',
    )
  })

  t.test('requests that share a transaction have spans of their own', async (t) => {
    const answers = await Promise.all(Array.from({ length: 40 }, () => post(`${api.url}/note`, { word: 'x' })))
    const ids = answers.map(({ body }) => body.id)
    const sent = spans.all().filter(({ attributes }) => ids.includes(attributes['messaging.message.id']))
    const named = (name: string) => sent.filter((span) => span.name === name)
    t.equal(named('send word.note').length, 40)
    t.equal(new Set(named('send word.note').map(({ traceId }) => traceId)).size, 40)
    t.same(
      new Set(named('accept word.note').map(({ parent }) => parent)),
      new Set(named('send word.note').map(({ spanId }) => spanId)),
    )
    const shared = spans
      .all()
      .filter(({ name, attributes }) => name === 'accept word.note' && attributes['messaging.batch.message_count'])
    t.ok(shared.some(({ links }) => links.length > 1))
  })

  t.test('batches, retries and enqueue carry the trace on, below the active span of the app', async (t) => {
    const traceId = hex(32)
    const traceparent = `00-${traceId}-${hex(16)}-01`
    const items = ['a', 'b'].map((word) => ({ operation: 'word.note', input: { word } }))
    const { body } = await post(
      `${api.url}/batches`,
      { items, onEnd: { operation: 'word.note', input: { word: 'end' } } },
      { traceparent },
    )
    await ended(body.links.self)
    const [next] = await jobs.query(`select id from accepted.job where batch ->> 'id' = $1`, [body.id])
    await spans.finished('process word.note', ({ attributes }) => attributes['messaging.message.id'] === next.id)
    const byName = traceOf(traceId)
    const [send] = byName.get('send batch') ?? []
    t.match(send?.attributes, { 'messaging.batch.message_count': 2, 'messaging.message.id': body.id })
    t.same(
      byName.get('process word.note')?.map(({ parent }) => parent),
      [send?.spanId, send?.spanId, send?.spanId],
    )
    const failed = await post(`${api.url}/say`, { word: 'no' })
    const { links } = await ended(failed.body.links.self)
    const retried = await post(links.retry, {}, { traceparent })
    await ended(retried.body.links.self)
    await spans.finished('process word.say', (span) => span.traceId === traceId)

    const tracer = trace.getTracer('test')
    const job = await tracer.startActiveSpan('job of the app', async (own) => {
      const enqueued = await jobs.database.kysely
        .transaction()
        .execute((trx) => api.app.accepted.enqueue(trx, count, { word: 'x' }))
      own.end()
      return enqueued
    })
    const own = await spans.finished('job of the app')
    const sent = await spans.finished(
      'send word.count',
      ({ attributes }) => attributes['messaging.message.id'] === job.id,
    )
    t.equal(sent.parent, own.spanId)
    await spans.finished('process word.count', ({ parent }) => parent === sent.spanId)
    t.equal(trace.getSpan(context.active()), undefined)
  })

  t.test('a malformed header is ignored, and a request without one starts a trace', async (t) => {
    for (const headers of [{}, { traceparent: '00-0-0-0', tracestate: 'a=b' }] as Record<string, string>[]) {
      const { body } = await post(`${api.url}/note`, { word: 'x' }, headers)
      const sent = await spans.finished('send word.note', (span) => span.attributes['messaging.message.id'] === body.id)
      t.match(sent, { parent: undefined })
      t.equal((await jobs.read(body.id)).tracestate, null)
    }
    t.equal((await get(`${api.url}/health/live`)).status, 200)
  })
})
