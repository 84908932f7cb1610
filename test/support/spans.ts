import { type Attributes, type HrTime, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import {
  InMemorySpanExporter,
  NodeTracerProvider,
  type ReadableSpan,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-node'
import { until } from './until.ts'

/** A finished span, as tests compare it. */
export interface Finished {
  name: string
  kind: string
  traceId: string
  spanId: string
  parent: string | undefined
  /** The ids of the linked spans. */
  links: string[]
  attributes: Attributes
  isFailed: boolean
  /** The messages of the recorded exceptions. */
  exceptions: string[]
  startedAt: number
  endedAt: number
}

/** The spans that this process has finished. */
export interface Spans {
  all(): Finished[]
  /** Waits until a span has finished that matches. Without a condition, any span with the name. */
  finished(name: string, matches?: (span: Finished) => boolean): Promise<Finished>
}

/** Registers a tracer provider for this process, which keeps its spans in memory. Call it once per test file. */
export function recordSpans(): Spans {
  const exporter = new InMemorySpanExporter()
  new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }).register()
  const all = () => exporter.getFinishedSpans().map(toFinished)
  return {
    all,
    finished: (name, matches = () => true) => until(() => all().find((span) => span.name === name && matches(span))),
  }
}

const toMs = ([seconds, nanoseconds]: HrTime) => seconds * 1000 + nanoseconds / 1e6

function toFinished(span: ReadableSpan): Finished {
  return {
    name: span.name,
    kind: SpanKind[span.kind],
    traceId: span.spanContext().traceId,
    spanId: span.spanContext().spanId,
    parent: span.parentSpanContext?.spanId,
    links: span.links.map(({ context }) => context.spanId),
    attributes: span.attributes,
    isFailed: span.status.code === SpanStatusCode.ERROR,
    exceptions: span.events.map(({ attributes }) => `${attributes?.['exception.message']}`),
    startedAt: toMs(span.startTime),
    endedAt: toMs(span.endTime),
  }
}

/** Records a span, as the instrumentation of a handler's client would. */
export const startOwnSpan = (name: string): void => trace.getTracer('test').startSpan(name).end()
