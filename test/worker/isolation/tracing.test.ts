import { defineHandlers } from 'accepted/worker'
import t from 'tap'
import { recordSpans } from '../../support/spans.ts'
import * as operations from '../fixtures/isolate/operations.ts'
import { act, open } from './support.ts'

const spans = recordSpans()

t.test('the trace of a job goes on in the process of an isolated handler', async (t) => {
  const jobs = await open(t)
  const handler = { perform: new URL('../fixtures/isolate/traced.ts', import.meta.url), isolate: 'process' as const }
  await jobs.work(defineHandlers(operations, { act: handler, hurry: handler }))
  const { result } = await jobs.ended(await jobs.add(act, { act: 'trace' }))
  t.not(result.pid, process.pid)
  const { name, traceId } = await spans.finished('perform act', ({ spanId }) => spanId === result.spanId)
  t.same([name, traceId], ['perform act', result.traceId], 'the span of the worker is the active one in the child')
})
