import { registerHooks } from 'node:module'
import t from 'tap'
import { parseTraceparent, traceLogMembers } from '../../src/primitives/trace-context.ts'
import { loadTracing } from '../../src/primitives/tracing.ts'
import { recordSpans } from '../support/spans.ts'

const traceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`

t.test('nothing is traced without @opentelemetry/api, and without a tracer provider', async (t) => {
  const hooks = registerHooks({
    resolve(specifier, context, next) {
      if (specifier !== '@opentelemetry/api' || !context.parentURL?.endsWith('/src/primitives/tracing.ts')) {
        return next(specifier, context)
      }
      throw Object.assign(new Error('Cannot find package'), { code: 'ERR_MODULE_NOT_FOUND' })
    },
  })
  t.equal(await loadTracing(), undefined)
  hooks.deregister()
  t.equal(await loadTracing(), undefined)
})

t.test('spans keep the flags and the state of their trace', async (t) => {
  const spans = recordSpans()
  const tracing = await loadTracing()
  const parent = { traceparent, tracestate: 'vendor=x' }
  const span = tracing?.start('sampled', { parent })
  span?.fail(new Error('password=hunter2'), 'handler-error')
  span?.end()
  const finished = await spans.finished('sampled')
  t.same(span?.context, { traceparent: `00-${'a'.repeat(32)}-${finished.spanId}-01`, tracestate: 'vendor=x' })
  t.match(finished, { isFailed: true, parent: 'b'.repeat(16), attributes: { 'error.type': 'handler-error' } })
  t.notMatch(finished.exceptions, [/hunter2/])
  const unsampled = tracing?.start('not sampled', { parent: { traceparent: traceparent.replace(/01$/, '00') } })
  t.match(unsampled?.context.traceparent, /^00-a{32}-[0-9a-f]{16}-00$/)
  unsampled?.end()
  tracing?.continue(parent, () => t.equal(tracing.activeContext()?.traceparent, traceparent))
  t.equal(tracing?.activeContext(), undefined)
})

t.test('a malformed traceparent has no ids', async (t) => {
  t.same(parseTraceparent(traceparent), { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), traceFlags: 1 })
  for (const text of [undefined, null, '', 'x', traceparent.replace(/^00/, 'ff'), traceparent.toUpperCase()]) {
    t.equal(parseTraceparent(text), undefined)
  }
  t.same(traceLogMembers({ traceparent }), { trace_id: 'a'.repeat(32), span_id: 'b'.repeat(16) })
  t.same(traceLogMembers({ traceparent: null }), {})
})
