import { defineOperation } from 'accepted'
import { pino } from 'pino'
import t from 'tap'
import { openJobs } from '../../support/jobs.ts'
import { handlersFor, Word } from '../support.ts'

const say = defineOperation({ name: 'word.say', input: Word })

t.test('perform and settle get the id of the worker that the table of jobs names', async (t) => {
  const jobs = await openJobs(t, [say])
  const id = await jobs.add(say, { word: 'x' })
  const workers: string[] = []
  await jobs.work(
    handlersFor(say, {
      perform: async ({ worker }) => void workers.push(worker),
      settle: async (_trx, [job]) => void workers.push(`${job?.worker}`),
    }),
  )
  const { worker_id } = await jobs.ended(id)
  t.same(workers, [worker_id, worker_id])
  t.match(await jobs.query('select id from accepted.worker'), [{ id: worker_id }])
})

t.test('without a tracer provider, perform, settle and the log of the job get the trace of the request', async (t) => {
  const jobs = await openJobs(t, [say])
  const requestTraceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`
  const traced = await jobs.add(say, { word: 'x' }, { traceparent: requestTraceparent, tracestate: 'a=b' })
  const untraced = await jobs.add(say, { word: 'x' })
  const calls: [string, string, string | undefined, string | undefined][] = []
  const lines: { msg: string; job: string; trace_id?: string; span_id?: string }[] = []
  const log = pino({}, { write: (line: string) => void lines.push(JSON.parse(line)) })
  await jobs.work(
    handlersFor(say, {
      perform: async ({ id, traceparent, tracestate, log }) => {
        calls.push(['perform', id, traceparent, tracestate])
        log.info('said')
      },
      settle: async (_trx, batch) => {
        for (const { id, traceparent, tracestate } of batch) calls.push(['settle', id, traceparent, tracestate])
      },
    }),
    { log },
  )
  for (const id of [traced, untraced]) {
    await jobs.ended(id)
    const expected = id === traced ? [requestTraceparent, 'a=b'] : [undefined, undefined]
    t.same(
      calls.filter(([_handler, jobId]) => jobId === id),
      [
        ['perform', id, ...expected],
        ['settle', id, ...expected],
      ],
    )
    t.same(
      lines.filter(({ msg, job }) => msg === 'said' && job === id).map(({ trace_id, span_id }) => [trace_id, span_id]),
      [id === traced ? ['a'.repeat(32), 'b'.repeat(16)] : [undefined, undefined]],
    )
  }
})
